/* Counts float32 pre-activations of ReLU and its kin, clamps all of them, in one trip to memory.

A tensor lies densely as (rows, units, positions), or "across": as (rows, positions, units). Each thread has rows or
units of its own, and with rows figures of its own, too: those are added up when they are read, not in every call.
The OpenMP runtime is the one that torch has loaded: this is not linked to another, so that a process keeps one pool. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <float.h>
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
    SHORT = 40,   /* lines of fewer floats are counted as columns */
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
    double *maxima, *sums;
} Figures;

typedef struct {
    Py_ssize_t rows, units, positions;
    Clamp clamp;
} Task;

/* What one thread does of it: rows and units up to, but not with, the ends, and the figures that it adds to. */
typedef struct {
    Py_ssize_t row, end_row, unit, end_unit;
    Figures add;
} Part;

/* NaN does not fire. */
INLINE int fires(float z, Clamp clamp) { return (z > clamp.low) & (z <= clamp.high); }

/* The size of the output, so small that a block of them does not overflow. */
INLINE float size(float z, Clamp clamp) {
    const float raised = z > clamp.bottom ? z : clamp.bottom;
    return fabsf(raised < clamp.top ? raised : clamp.top) / BLOCK;
}

INLINE void heighten(double *maximum, float value) { *maximum = value > *maximum ? value : *maximum; }

/* Units with many positions each: along every line. */
EACH_PROCESSOR
static void count_lines(const Task *task, const float *z, const Part *part) {
    const Clamp clamp = task->clamp;
    const Figures *add = &part->add;
    for (Py_ssize_t row = part->row; row < part->end_row; row++)
        for (Py_ssize_t unit = part->unit; unit < part->end_unit; unit++) {
            const float *line = z + (row * task->units + unit) * task->positions;
            int64_t fired = 0;
            for (Py_ssize_t at = 0; at < task->positions; at += BLOCK) {
                const int end = task->positions - at < BLOCK ? (int)(task->positions - at) : BLOCK;
                int32_t hits = 0, odd = 0;
                float most = -INFINITY, sum = 0;
#pragma omp simd reduction(+ : hits, odd, sum) reduction(max : most)
                for (int i = 0; i < end; i++) {
                    const float value = line[at + i];
                    const int finite = fabsf(value) <= FLT_MAX;
                    const float top = finite ? value : -INFINITY;
                    hits += fires(value, clamp);
                    odd += !finite;
                    most = top > most ? top : most;
                    sum += finite ? size(value, clamp) : 0;
                }
                fired += hits;
                add->nonfinite[unit] += odd;
                add->sums[unit] += (double)sum * BLOCK;
                heighten(&add->maxima[unit], most);
            }
            add->fires[unit] += fired;
            add->row_fires[unit] += fired > 0;
        }
}

/* Add the hits of one row, `width` columns a unit. */
INLINE void fold(const int32_t *hits, int units, int width, int64_t *fires, int64_t *row_fires) {
    for (int unit = 0; unit < units; unit++) {
        int32_t fired = 0;
        for (int c = 0; c < width; c++)
            fired += hits[unit * width + c];
        fires[unit] += fired;
        row_fires[unit] += fired > 0;
    }
}

/* The same; of the usual small maps the compiler knows how many columns it adds up. */
INLINE void add_hits(const int32_t *hits, int units, int width, int64_t *fires, int64_t *row_fires) {
    switch (width) {
    case 1:
        fold(hits, units, 1, fires, row_fires);
        break;
    case 4:
        fold(hits, units, 4, fires, row_fires);
        break;
    case 16:
        fold(hits, units, 16, fires, row_fires);
        break;
    default:
        fold(hits, units, width, fires, row_fires);
    }
}

/* Everything else: across the lines of a row, so many of them, where each unit has `width` columns. */
EACH_PROCESSOR
static void count_columns(const Task *task, const float *z, Py_ssize_t lines, int width, const Part *part) {
    const Clamp clamp = task->clamp;
    const Figures *add = &part->add;
    const int together = TILE / width;
    const Py_ssize_t stride = task->units * width;
    for (Py_ssize_t unit = part->unit; unit < part->end_unit; unit += together) {
        const Py_ssize_t rest = part->end_unit - unit;
        const int units = rest < together ? (int)rest : together, columns = units * width;
        int32_t hits[TILE], odd[TILE] = {0};
        float most[TILE], sum[TILE] = {0};
        Py_ssize_t left = SUMMED;
        for (int c = 0; c < columns; c++)
            most[c] = -INFINITY;
        for (Py_ssize_t row = part->row; row < part->end_row; row++) {
            memset(hits, 0, sizeof hits);
            for (Py_ssize_t line = row * lines; line < (row + 1) * lines; line++) {
                const float *here = z + line * stride + unit * width;
#pragma omp simd
                for (int c = 0; c < columns; c++) {
                    const float value = here[c];
                    const int finite = fabsf(value) <= FLT_MAX;
                    const float top = finite ? value : -INFINITY;
                    hits[c] += fires(value, clamp);
                    odd[c] += !finite;
                    most[c] = top > most[c] ? top : most[c];
                    sum[c] += finite ? size(value, clamp) : 0;
                }
                if (--left && line + 1 < part->end_row * lines)
                    continue;
                left = SUMMED;
                for (int u = 0, c = 0; u < units; u++)
                    for (int end = c + width; c < end; c++) {
                        add->nonfinite[unit + u] += odd[c];
                        add->sums[unit + u] += (double)sum[c] * BLOCK;
                        odd[c] = 0;
                        sum[c] = 0;
                    }
            }
            add_hits(hits, units, width, add->fires + unit, add->row_fires + unit);
        }
        for (int u = 0, c = 0; u < units; u++)
            for (int end = c + width; c < end; c++)
                heighten(&add->maxima[unit + u], most[c]);
    }
}

static PyObject *count(PyObject *module, PyObject *arguments) {
    (void)module;
    Task task;
    int across, by_row;
    Py_ssize_t parts;
    unsigned long long fires, row_fires, nonfinite, maxima, sums, z;
    if (!PyArg_ParseTuple(arguments, "nnnpffffpnKKKKKK", &task.rows, &task.units, &task.positions, &across,
                          &task.clamp.low, &task.clamp.high, &task.clamp.bottom, &task.clamp.top, &by_row, &parts,
                          &fires, &row_fires, &nonfinite, &maxima, &sums, &z))
        return NULL;
    if (!z) {
        PyErr_SetString(PyExc_ValueError, "the tensor has no memory");
        return NULL;
    }
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

static PyMethodDef methods[] = {{"count", count, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_count", .m_methods = methods};

PyMODINIT_FUNC PyInit__count(void) { return PyModule_Create(&definition); }
