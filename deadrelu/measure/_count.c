/* Counts float32 pre-activations of ReLU and other clamps in one pass over memory, and keeps the extremes of some units.

A tensor lies densely as (rows, units, positions), or "across": as (rows, positions, units). Each thread has rows or
units of its own, and with rows figures of its own, too: those are added up when they are read, not in every call.
The OpenMP runtime is the one that torch has loaded: this links to no other, so a process keeps one pool of threads. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__)
#define EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EACH_PROCESSOR
#endif

/* Inlined for certain: what is not would be compiled for the oldest processor alone. */
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum {
    SHORT = 80,   /* lines of fewer floats are counted as columns */
    BLOCK = 4096, /* floats of a line, and */
    SUMMED = 256, /* lines of a column, that are added up in float32, of which rounding takes no more than it must */
    TILE = 256,   /* columns that are counted together: their sums stay in the first cache */
};

/* A unit fires where low < z <= high, and puts out min(max(z, bottom), top). */
typedef struct {
    float low, high, bottom, top;
} Clamp;

/* What is added to, an entry for each unit. Sums are of the sizes of outputs. What is not finite is only counted. */
typedef struct {
    int64_t *fires, *row_fires, *nonfinite;
    double *maxima, *minima, *sums;
} Figures;

typedef struct {
    Py_ssize_t rows, units, positions;
    Clamp clamp;
    int relu;
} Task;

/* What one thread does of it: rows and units up to, but not with, the ends, and the figures that it adds to. */
typedef struct {
    Py_ssize_t row, end_row, unit, end_unit;
    Figures add;
} Part;

/* NaN does not fire. What `relu` says is in `clamp`, too, but there the compiler does not know it. */
INLINE int fires(float z, Clamp clamp, int relu) { return relu ? z > 0 : (z > clamp.low) & (z <= clamp.high); }

/* The size of the output. */
INLINE float size(float z, Clamp clamp, int relu) {
    const float raised = z > clamp.bottom ? z : clamp.bottom;
    return relu ? (z > 0 ? z : 0) : fabsf(raised < clamp.top ? raised : clamp.top);
}

/* The same of what is finite, and NaN of everything else, however it is clamped. */
INLINE float size_if_finite(float z, Clamp clamp, int relu) { return size(z, clamp, relu) + z * 0; }

INLINE void heighten(double *maximum, float value) { *maximum = value > *maximum ? value : *maximum; }
INLINE void deepen(double *minimum, float value) { *minimum = value < *minimum ? value : *minimum; }

/* One float of a unit where not all of them are finite, or where they are too large to be added up in float32. */
static void add_one(float z, Clamp clamp, const Figures *add, Py_ssize_t unit) {
    if (isfinite(z)) {
        add->sums[unit] += size(z, clamp, 0);
        heighten(&add->maxima[unit], z);
        deepen(&add->minima[unit], z);
    } else
        add->nonfinite[unit]++;
}

/* Units with many positions each: along every line. */
INLINE void along(const Task *task, const float *z, const Part *part, int relu) {
    const Clamp clamp = task->clamp;
    const Figures *add = &part->add;
    for (Py_ssize_t row = part->row; row < part->end_row; row++)
        for (Py_ssize_t unit = part->unit; unit < part->end_unit; unit++) {
            const float *line = z + (row * task->units + unit) * task->positions;
            int64_t fired = 0;
            for (Py_ssize_t at = 0; at < task->positions; at += BLOCK) {
                const int end = task->positions - at < BLOCK ? (int)(task->positions - at) : BLOCK;
                int32_t hits = 0;
                float most = -INFINITY, least = INFINITY, sum = 0;
#pragma omp simd reduction(+ : hits, sum) reduction(max : most) reduction(min : least)
                for (int i = 0; i < end; i++) {
                    const float value = line[at + i];
                    hits += fires(value, clamp, relu);
                    most = value > most ? value : most;
                    least = value < least ? value : least;
                    sum += size_if_finite(value, clamp, relu);
                }
                fired += hits;
                if (isfinite(sum)) {
                    add->sums[unit] += sum;
                    heighten(&add->maxima[unit], most);
                    deepen(&add->minima[unit], least);
                } else
                    for (int i = 0; i < end; i++)
                        add_one(line[at + i], clamp, add, unit);
            }
            add->fires[unit] += fired;
            add->row_fires[unit] += fired > 0;
        }
}

EACH_PROCESSOR
static void count_lines(const Task *task, const float *z, const Part *part) {
    if (task->relu)
        along(task, z, part, 1);
    else
        along(task, z, part, 0);
}

/* How many bits are 1. */
INLINE int ones(uint32_t word) {
    word -= word >> 1 & 0x55555555;
    word = (word & 0x33333333) + (word >> 2 & 0x33333333);
    return (int)(((word + (word >> 4)) & 0x0F0F0F0F) * 0x01010101 >> 24);
}

/* Columns that are counted together, `width` of them a unit; `hits` are counts, or a bit for each of up to 32 rows. */
typedef struct {
    uint32_t hits[TILE];
    float most[TILE], least[TILE], sum[TILE];
} Tile;

/* Add the hits of some rows to those of the units, and forget them. */
INLINE void add_hits(Tile *tile, int units, int width, int are_bits, int64_t *fires, int64_t *row_fires) {
    for (int u = 0; u < units; u++) {
        uint32_t fired = 0, any = 0;
        for (int c = u * width; c < (u + 1) * width; c++) {
            fired += are_bits ? (uint32_t)ones(tile->hits[c]) : tile->hits[c];
            any |= tile->hits[c];
            tile->hits[c] = 0;
        }
        fires[u] += fired;
        row_fires[u] += are_bits ? ones(any) : any > 0;
    }
}

/* Add extremes and sums of some lines from `z` on to those of the units, from `unit` on, and forget them. */
INLINE void add_sums(Tile *tile, int units, int width, const Task *task, const float *z, Py_ssize_t lines,
                     const Figures *add, Py_ssize_t unit) {
    for (int u = 0; u < units; u++) {
        const int first = u * width, end = first + width;
        float most = -INFINITY, least = INFINITY;
        double sum = 0;
#pragma omp simd reduction(+ : sum) reduction(max : most) reduction(min : least)
        for (int c = first; c < end; c++) {
            most = tile->most[c] > most ? tile->most[c] : most;
            least = tile->least[c] < least ? tile->least[c] : least;
            sum += tile->sum[c];
            tile->most[c] = -INFINITY;
            tile->least[c] = INFINITY;
            tile->sum[c] = 0;
        }
        if (isfinite(sum)) {
            add->sums[unit + u] += sum;
            heighten(&add->maxima[unit + u], most);
            deepen(&add->minima[unit + u], least);
        } else
            for (Py_ssize_t line = 0; line < lines; line++)
                for (int c = first; c < end; c++)
                    add_one(z[line * task->units * width + c], task->clamp, add, unit + u);
    }
}

/* Everything else: across the lines of a row, so many of them, where each unit has `width` columns. */
INLINE void down(const Task *task, const float *z, Py_ssize_t lines, int width, const Part *part, int relu) {
    const Clamp clamp = task->clamp;
    const Figures *add = &part->add;
    const int are_bits = lines == 1, together = TILE / width;
    const Py_ssize_t stride = task->units * width, end = part->end_row * lines;
    Tile tile = {.hits = {0}, .sum = {0}};
    for (int c = 0; c < TILE; c++) {
        tile.most[c] = -INFINITY;
        tile.least[c] = INFINITY;
    }
    for (Py_ssize_t unit = part->unit; unit < part->end_unit; unit += together) {
        const Py_ssize_t rest = part->end_unit - unit;
        const int units = rest < together ? (int)rest : together, columns = units * width;
        const float *here = z + unit * width;
        Py_ssize_t added = part->row * lines; /* the first line of which the sums are not yet added */
        for (Py_ssize_t row = part->row; row < part->end_row; row++) {
            const int bit = are_bits ? (row - part->row) % 32 : 0;
            for (Py_ssize_t line = row * lines; line < (row + 1) * lines; line++) {
#pragma omp simd
                for (int c = 0; c < columns; c++) {
                    const float value = here[line * stride + c];
                    tile.hits[c] += (uint32_t)fires(value, clamp, relu) << bit;
                    tile.most[c] = value > tile.most[c] ? value : tile.most[c];
                    tile.least[c] = value < tile.least[c] ? value : tile.least[c];
                    tile.sum[c] += size_if_finite(value, clamp, relu);
                }
                if (line + 1 == added + SUMMED || line + 1 == end) {
                    add_sums(&tile, units, width, task, here + added * stride, line + 1 - added, add, unit);
                    added = line + 1;
                }
            }
            if (!are_bits || bit == 31 || row + 1 == part->end_row)
                add_hits(&tile, units, width, are_bits, add->fires + unit, add->row_fires + unit);
        }
    }
}

EACH_PROCESSOR
static void count_columns(const Task *task, const float *z, Py_ssize_t lines, int width, const Part *part) {
    if (!task->relu)
        down(task, z, lines, width, part, 0);
    else if (width == 1)
        down(task, z, lines, 1, part, 1);
    else if (width == 4) /* of the smallest square maps the compiler is told the size */
        down(task, z, 1, 4, part, 1);
    else if (width == 16)
        down(task, z, 1, 16, part, 1);
    else
        down(task, z, 1, width, part, 1);
}

static PyObject *count(PyObject *module, PyObject *arguments) {
    (void)module;
    Task task;
    int across, by_row;
    Py_ssize_t parts;
    unsigned long long fires, row_fires, nonfinite, maxima, minima, sums, z;
    if (!PyArg_ParseTuple(arguments, "nnnpffffpnKKKKKKK", &task.rows, &task.units, &task.positions, &across,
                          &task.clamp.low, &task.clamp.high, &task.clamp.bottom, &task.clamp.top, &by_row, &parts,
                          &fires, &row_fires, &nonfinite, &maxima, &minima, &sums, &z))
        return NULL;
    if (!z) {
        PyErr_SetString(PyExc_ValueError, "the tensor has no memory");
        return NULL;
    }
    task.relu = task.clamp.low == 0 && isinf(task.clamp.high) && task.clamp.bottom == 0 && isinf(task.clamp.top);
    const float *first = (const float *)(uintptr_t)z;
    Py_BEGIN_ALLOW_THREADS
#pragma omp parallel for schedule(static, 1) if (parts > 1)
    for (Py_ssize_t index = 0; index < parts; index++) {
        const Py_ssize_t own = by_row ? index * task.units : 0;
        Part part = {.end_row = task.rows, .end_unit = task.units};
        part.add.fires = (int64_t *)(uintptr_t)fires + own;
        part.add.row_fires = (int64_t *)(uintptr_t)row_fires + own;
        part.add.nonfinite = (int64_t *)(uintptr_t)nonfinite + own;
        part.add.maxima = (double *)(uintptr_t)maxima + own;
        part.add.minima = (double *)(uintptr_t)minima + own;
        part.add.sums = (double *)(uintptr_t)sums + own;
        if (by_row) {
            part.row = task.rows * index / parts;
            part.end_row = task.rows * (index + 1) / parts;
        } else {
            part.unit = task.units * index / parts;
            part.end_unit = task.units * (index + 1) / parts;
        }
        if (across)
            count_columns(&task, first, task.positions, 1, &part);
        else if (task.positions < SHORT)
            count_columns(&task, first, 1, (int)task.positions, &part);
        else
            count_lines(&task, first, &part);
    }
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* Put a value in the place of the least of a heap, which is its first. */
static void replace_least(float *heap, Py_ssize_t size, float value) {
    Py_ssize_t place = 0;
    for (Py_ssize_t child = 1; child < size; child = 2 * place + 1) {
        if (child + 1 < size && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= value)
            break;
        heap[place] = heap[child];
        place = child;
    }
    heap[place] = value;
}

/* Units of which the `size` largest values are kept, each in a heap of its own, and the sum of all their values. */
typedef struct {
    Py_ssize_t kept, size;
    const int64_t *units;
    float *heaps, *least; /* the least of each heap once more, for these are read for each value */
    double *sums;
} Extremes;

/* Rows of `units` floats each; `sign` is -1 where the smallest are kept, of which the heaps hold the negatives. */
EACH_PROCESSOR
static void keep_rows(const float *z, Py_ssize_t rows, Py_ssize_t units, float sign, const Extremes *of) {
    float values[TILE];
    for (Py_ssize_t first = 0; first < of->kept; first += TILE) {
        const int end = of->kept - first < TILE ? (int)(of->kept - first) : TILE;
        float *least = of->least + first;
        double *sums = of->sums + first;
        for (Py_ssize_t row = 0; row < rows; row++) {
            int larger = 0;
            for (int u = 0; u < end; u++)
                values[u] = z[row * units + of->units[first + u]];
#pragma omp simd reduction(| : larger)
            for (int u = 0; u < end; u++) {
                values[u] *= sign;
                sums[u] += values[u];
                larger |= values[u] > least[u];
            }
            for (int u = 0; larger && u < end; u++)
                if (values[u] > least[u]) {
                    float *heap = of->heaps + (first + u) * of->size;
                    replace_least(heap, of->size, values[u]);
                    least[u] = *heap;
                }
        }
    }
}

static PyObject *keep(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_ssize_t rows, units;
    int smallest;
    Extremes of;
    unsigned long long kept_units, heaps, least, sums, z;
    if (!PyArg_ParseTuple(arguments, "nnpKKKKnKn", &of.kept, &of.size, &smallest, &kept_units, &heaps, &least, &sums,
                          &units, &z, &rows))
        return NULL;
    of.units = (const int64_t *)(uintptr_t)kept_units;
    of.heaps = (float *)(uintptr_t)heaps;
    of.least = (float *)(uintptr_t)least;
    of.sums = (double *)(uintptr_t)sums;
    keep_rows((const float *)(uintptr_t)z, rows, units, smallest ? -1 : 1, &of);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"count", count, METH_VARARGS, NULL}, {"keep", keep, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_count", .m_methods = methods};

PyMODINIT_FUNC PyInit__count(void) { return PyModule_Create(&definition); }
