// Products with weights that are stored in panels of WIDTH columns, [d_out / WIDTH][d_in][WIDTH].
//
// Each number of a result is one sum, in the order of d_in, whatever the rows beside it: so a row alone and
// in a batch gives the same bits.

enum { F32, BF16, INT8, TILES };

typedef struct {
    const void *panels;
    const float *scale; // of each column, INT8 alone
    const float *bias;  // of each column, or null
    int d_in, d_out, kind;
} Matrix; // of kind TILES: see tiles.h

INLINE vec weights(const void *p, long i, const int kind) {
    if (kind == F32) return at((const float *)p + i);
    return kind == BF16 ? from_bf16((const uint16_t *)p + i) : from_int8((const int8_t *)p + i);
}

#define AHEAD 16384 // bytes between weights that are multiplied and those that are fetched from memory

INLINE void fetch(const void *p, long i, const int kind) {
    __builtin_prefetch((const char *)p + i * (kind == F32 ? 4 : kind == BF16 ? 2 : 1) + AHEAD, 0, 2);
}

// acc[row][2 panel + half] += x[row] times each of the panels, which lie `apart` numbers from each other.
// One alone is fetched ahead; several the processor fetches well by itself.
INLINE void tile(const int rows, const int panels, const int kind, const float *x, long x_stride,
                 const void *w, long apart, int d_in, vec acc[][8]) {
    for (int k = 0; k < d_in; k++) {
        vec b[8];
        UNROLL
        for (int j = 0; j < 2 * panels; j++) {
            long i = (j >> 1) * apart + (long)k * WIDTH + (j & 1) * LANES;
            b[j] = weights(w, i, kind);
            if (panels == 1 && (kind == F32 || j == 0)) fetch(w, i, kind);
        }
        UNROLL
        for (int i = 0; i < rows; i++) {
            vec a = all(x[i * x_stride + k]);
            UNROLL
            for (int j = 0; j < 2 * panels; j++) acc[i][j] += a * b[j];
        }
    }
}

INLINE void store(const Matrix *m, int column, vec a, vec b, float *out) {
    float both[WIDTH];
    if (column + WIDTH <= m->d_out && !m->scale && !m->bias) {
        put(out + column, a), put(out + column + LANES, b);
        return;
    }
    put(both, a), put(both + LANES, b);
    int n = m->d_out - column < WIDTH ? m->d_out - column : WIDTH;
    if (m->scale)
        for (int i = 0; i < n; i++) both[i] *= m->scale[column + i];
    if (m->bias)
        for (int i = 0; i < n; i++) both[i] += m->bias[column + i];
    memcpy(out + column, both, n * sizeof(float));
}

INLINE void rows_by_panels(const int rows, const int panels, const int kind, const Matrix *m,
                           const float *x, long x_stride, float *out, long out_stride, int panel) {
    long apart = (long)m->d_in * WIDTH;
    const int size = kind == F32 ? 4 : kind == BF16 ? 2 : 1;
    vec acc[ROWS][8];
    UNROLL
    for (int i = 0; i < rows; i++) UNROLL
    for (int j = 0; j < 2 * panels; j++) acc[i][j] = all(0);
    tile(rows, panels, kind, x, x_stride, (const char *)m->panels + panel * apart * size, apart, m->d_in,
         acc);
    UNROLL
    for (int i = 0; i < rows; i++) UNROLL
    for (int j = 0; j < panels; j++)
        store(m, (panel + j) * WIDTH, acc[i][2 * j], acc[i][2 * j + 1], out + i * out_stride);
}

// How many of the `left` rows the next tile takes: tiles of about the same height
INLINE int height(int left, int most) {
    int tiles = (left + most - 1) / most;
    return (left + tiles - 1) / tiles;
}

#define FOR_ROWS(n, F) \
    switch (n) { \
    case 1: \
        F(1); \
        break; \
    case 2: \
        F(2); \
        break; \
    case 3: \
        F(3); \
        break; \
    case 4: \
        F(4); \
        break; \
    case 5: \
        F(5); \
        break; \
    case 6: \
        F(6); \
        break; \
    case 7: \
        F(7); \
        break; \
    case 8: \
        F(8); \
        break; \
    case 9: \
        F(9); \
        break; \
    case 10: \
        F(10); \
        break; \
    case 11: \
        F(11); \
        break; \
    case 12: \
        F(12); \
        break; \
    }

INLINE void product_of(const int kind, const Matrix *m, const float *x, long x_stride, float *out,
                       long out_stride, int M, int panel, int end) {
    if (M == 1) { // four panels at once: a sum has to wait for itself
        for (; panel + 4 <= end; panel += 4)
            rows_by_panels(1, 4, kind, m, x, x_stride, out, out_stride, panel);
    }
    for (; panel < end; panel++)
        for (int i = 0, n; i < M; i += n) {
            n = height(M - i, kind == F32 ? ROWS : ROWS * 2 / 3); // making weights float32 takes registers
#define CASE(R) \
    if (R <= ROWS) \
    rows_by_panels(R <= ROWS ? R : 1, 1, kind, m, x + i * x_stride, x_stride, out + i * out_stride, \
                   out_stride, panel)
            FOR_ROWS(n, CASE)
#undef CASE
        }
}

INLINE int n_panels(const Matrix *m) { return (m->d_out + WIDTH - 1) / WIDTH; }

#include "tiles.h"

// out[M][d_out] = x[M][d_in] W^T, its columns of the panels from `panel` to `end`
static void product(const Matrix *m, const float *x, long x_stride, float *out, long out_stride, int M,
                    int panel, int end) {
    if (m->kind == F32) product_of(F32, m, x, x_stride, out, out_stride, M, panel, end);
    else if (m->kind == BF16) product_of(BF16, m, x, x_stride, out, out_stride, M, panel, end);
    else if (m->kind == TILES) product_by_tiles(m, x, x_stride, out, out_stride, M, panel, end);
    else product_of(INT8, m, x, x_stride, out, out_stride, M, panel, end);
}
