// Products in bfloat16 by the processor's tiles (AMX): both factors are rounded to nearest, ties to even, and
// summed in float32; denormals count as zero.  Weights are tiles as the processor reads them, in panels of
// WIDTH columns, [d_out / WIDTH][d_in / DEPTH][2][DEPTH / 2][LANES][2], zeros behind d_in.
//
// Each number of a result is one sum, DEPTH terms at a time in the order of d_in, whatever the rows beside
// it.

#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH 32                   // numbers of a row of a tile
#define HEIGHT 16                  // rows of a tile, at most
#define TILE (HEIGHT * DEPTH)      // numbers that one takes
#define ROUNDED_NUMBERS (1L << 18) // about, of the rows that are rounded at a time: half a megabyte
// By instructions of which a compiler may not know what they read
#define MEMORY_IS_READ __asm__ volatile("" ::: "memory")

// Whether the system lets this process have tiles: it saves their 8 kB only for those that have asked
int tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

// Sums in tiles 0 to 3, `rows` high, rows of x in 4 and 5, weights in 6 and 7
static void configure(int rows) {
    struct {
        uint8_t palette, start, zeros[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = i < 6 ? rows : DEPTH / 2;
    MEMORY_IS_READ;
    _tile_loadconfig(&config);
}

// n rows of x as tiles, [n / rows][d_in / DEPTH][HEIGHT][DEPTH], zeros where no number is
static void round_rows(const float *x, long x_stride, int n, int d_in, int rows, uint16_t *tiles) {
    int steps = (d_in + DEPTH - 1) / DEPTH;
    for (int i = 0; i < (n + rows - 1) / rows * rows; i++) {
        const float *from = x + i * x_stride;
        uint16_t *to = tiles + (long)(i / rows) * steps * TILE + i % rows * DEPTH;
        for (int k = 0; k < steps * DEPTH; k += LANES) {
            int left = i < n ? d_in - k : 0;
            __mmask16 mask = left >= LANES ? 0xffff : left > 0 ? (1 << left) - 1 : 0;
            __m256bh y = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + k));
            memcpy(to + (long)(k / DEPTH) * TILE + k % DEPTH, &y, sizeof(y));
        }
    }
}

// Rows of one tile, or of two that lie `apart` numbers from each other, times a panel of weights.  Each tile
// that is read is used twice where there are two.  `first`: nobody has read these weights lately.
INLINE void sum_tiles(const int high, const uint16_t *x, long apart, const uint16_t *w, int steps,
                      int first) {
    _tile_zero(0);
    _tile_zero(1);
    if (high == 2) {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int k = 0; k < steps; k++, x += TILE, w += 2 * TILE) {
        for (int i = 0; i < 2 * TILE && first; i += DEPTH) __builtin_prefetch(w + 8 * TILE + i, 0, 2);
        _tile_loadd(6, w, 64);
        _tile_loadd(4, x, 64);
        _tile_loadd(7, w + TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        if (high == 2) {
            _tile_loadd(5, x + apart, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
}

// Row i of the sums goes to out + i * stride; the second tile's rows stand behind `rows` of the first
INLINE void store_tiles(const int high, float *out, long stride, int rows) {
    long bytes = stride * sizeof(float);
    _tile_stored(0, out, bytes);
    _tile_stored(1, out + LANES, bytes);
    if (high == 2) {
        _tile_stored(2, out + rows * stride, bytes);
        _tile_stored(3, out + rows * stride + LANES, bytes);
    }
}

// out[n] = the n rows of `high` tiles, `rows` in each but the last, times a panel
INLINE void rows_by_tiles(const int high, const Matrix *m, const uint16_t *x, int rows, int n, int panel,
                          float *out, long out_stride, int first) {
    int steps = (m->d_in + DEPTH - 1) / DEPTH, column = panel * WIDTH;
    const uint16_t *w = (const uint16_t *)m->panels + (long)panel * steps * 2 * TILE;
    sum_tiles(high, x, (long)steps * TILE, w, steps, first);
    if (n == high * rows && column + WIDTH <= m->d_out && !m->bias) {
        store_tiles(high, out + column, out_stride, rows);
        return;
    }
    float sums[2 * HEIGHT * WIDTH];
    store_tiles(high, sums, WIDTH, rows);
    for (int i = 0; i < n; i++) {
        const float *row = sums + i * WIDTH;
        store(m, column, at(row), at(row + LANES), out + i * out_stride);
    }
}

static void product_by_tiles(const Matrix *m, const float *x, long x_stride, float *out, long out_stride,
                             int M, int panel, int end) {
    int steps = (m->d_in + DEPTH - 1) / DEPTH;
    int most = ROUNDED_NUMBERS / (steps * DEPTH) / (2 * HEIGHT) * (2 * HEIGHT);
    if (most < 2 * HEIGHT) most = 2 * HEIGHT;
    for (int first = 0, n; first < M; first += n) {
        n = M - first < most ? M - first : most;
        int rows = height(n, HEIGHT), n_tiles = (n + rows - 1) / rows;
        uint16_t rounded[(long)n_tiles * steps * TILE] __attribute__((aligned(64)));
        round_rows(x + first * x_stride, x_stride, n, m->d_in, rows, rounded);
        configure(rows);
        for (int p = panel; p < end; p++)
            for (int i = 0; i < n_tiles; i += 2) {
                const uint16_t *tiles = rounded + (long)i * steps * TILE;
                float *to = out + (first + (long)i * rows) * out_stride;
                int left = n - i * rows;
                if (i + 1 == n_tiles) rows_by_tiles(1, m, tiles, rows, left, p, to, out_stride, i == 0);
                else {
                    if (left > 2 * rows) left = 2 * rows;
                    rows_by_tiles(2, m, tiles, rows, left, p, to, out_stride, i == 0);
                }
            }
        _tile_release();
    }
}

#else

int tiles(void) { return 0; }

static void product_by_tiles(const Matrix *m, const float *x, long x_stride, float *out, long out_stride,
                             int M, int panel, int end) {
    (void)m, (void)x, (void)x_stride, (void)out, (void)out_stride, (void)M, (void)panel, (void)end;
}

#endif
