"use strict";
// Sorting and filtering. The page is complete without this.
(() => {
  const table = document.getElementById("sites");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];

  const key = (row, column) => row.cells[column].dataset.v ?? "";
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b;
  };

  const sort = (column) => {
    const head = heads[column];
    const first = rows.some((row) => isNaN(key(row, column))) || column === 0 ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const place = (row) => Number(row.dataset.place);
    const missing = (row) => key(row, column) === "";
    // Rows without a value stay at the end in both orders.
    const sorted = [...rows].sort(
      (a, b) =>
        missing(a) - missing(b) || sign * compare(key(a, column), key(b, column)) || place(a) - place(b)
    );
    body.append(...sorted);
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    if (!button.textContent) button.setAttribute("aria-label", head.getAttribute("aria-label"));
    head.append(button);
    button.addEventListener("click", () => sort(column));
  });

  const tools = document.querySelector(".tools");
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "Filter by name";
  search.setAttribute("aria-label", "Filter the sites by name");
  const only = document.createElement("input");
  only.type = "checkbox";
  const label = document.createElement("label");
  label.append(only, " only sites that need attention");
  tools.append(search, label);
  tools.hidden = false;

  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    for (const row of rows) {
      const named = row.cells[1].textContent.toLowerCase().includes(wanted);
      const hidden = !named || (only.checked && !("sick" in row.dataset));
      row.hidden = hidden;
      const part = document.querySelector(`details.site[data-place="${row.dataset.place}"]`);
      if (part) part.hidden = hidden;
    }
  };
  search.addEventListener("input", filter);
  only.addEventListener("change", filter);
})();
