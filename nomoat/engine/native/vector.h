// Vectors of the processor that this is compiled for, and the few functions of one that a step needs.
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#define ROWS 12 // rows of a tile: with two vectors each, they fill the registers
#elif defined(__AVX__)
#define LANES 8
#define ROWS 6
#else
#define LANES 4
#define ROWS 6
#endif
#define WIDTH (2 * LANES) // columns of a panel

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES), aligned(4)));

INLINE vec all(float x) { return x - (vec){0}; }
INLINE vec at(const float *p) { return *(const vec *)p; }
INLINE void put(float *p, vec v) { *(vec *)p = v; }
INLINE vec either(ivec mask, vec a, vec b) { return (vec)(((ivec)a & mask) | ((ivec)b & ~mask)); }

// LANES whole or half numbers as float32
#if defined(__AVX512F__)
#include <immintrin.h>
INLINE vec from_int8(const int8_t *p) {
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE vec from_bf16(const uint16_t *p) {
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16);
}
#elif defined(__AVX2__)
#include <immintrin.h>
INLINE vec from_int8(const int8_t *p) {
    return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
INLINE vec from_bf16(const uint16_t *p) {
    return (vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16);
}
#else
INLINE vec from_int8(const int8_t *p) {
    vec v;
    UNROLL
    for (int i = 0; i < LANES; i++) v[i] = p[i];
    return v;
}
INLINE vec from_bf16(const uint16_t *p) {
    uvec v;
    UNROLL
    for (int i = 0; i < LANES; i++) v[i] = (uint32_t)p[i] << 16;
    return (vec)v;
}
#endif

INLINE float sum(vec v) {
    float total = 0;
    UNROLL
    for (int i = 0; i < LANES; i++) total += v[i];
    return total;
}

INLINE float largest(vec v) {
    float best = v[0];
    UNROLL
    for (int i = 1; i < LANES; i++) best = v[i] > best ? v[i] : best;
    return best;
}

// 2^x for x <= 127, within 2e-7 of the value: 2^n times a polynomial on [-1/2, 1/2] (Taylor, degree 7).
INLINE vec exp2_vec(vec x) {
    x = either(x > all(-126), x, all(-126));
    const vec magic = all(12582912.0f); // 1.5 * 2^23: adding it rounds to a whole number
    vec n = (x + magic) - magic, f = x - n;
    vec y = all(1.52527338e-5f);
    y = y * f + all(1.54035304e-4f);
    y = y * f + all(1.33335581e-3f);
    y = y * f + all(9.61812911e-3f);
    y = y * f + all(5.55041087e-2f);
    y = y * f + all(2.40226507e-1f);
    y = y * f + all(6.93147181e-1f);
    y = y * f + all(1.0f);
    ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
    return y * (vec)power;
}

#define LOG2_E 1.44269504f

// The first n < LANES numbers of p, then `rest`.
INLINE vec some(const float *p, int n, float rest) {
    vec v = all(rest);
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
}

// x * sigmoid(x) * up
INLINE vec gated(vec x, vec up) {
    vec small = either(x < all(-80), all(-80), x);
    return x * up / (all(1) + exp2_vec(small * all(-LOG2_E)));
}

// Where the largest of n numbers stands, of equals the first
static int argmax(const float *x, int n) {
    vec most = all(x[0]);
    int i = 0;
    for (; i + LANES <= n; i += LANES) most = either(at(x + i) > most, at(x + i), most);
    float best = largest(most);
    for (; i < n; i++) best = x[i] > best ? x[i] : best;
    for (i = 0; x[i] != best && i < n - 1; i++) {
    }
    return i;
}

// to += x, n numbers
static void add(float *to, const float *x, int n) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) put(to + i, at(to + i) + at(x + i));
    for (; i < n; i++) to[i] += x[i];
}

// out = x / sqrt(mean(x^2) + eps) * gain, over d numbers (RMSNorm, arXiv 1910.07467)
static void rms_norm(const float *x, const float *gain, float eps, int d, float *out) {
    vec squares = all(0);
    int i = 0;
    for (; i + LANES <= d; i += LANES) squares += at(x + i) * at(x + i);
    float total = sum(squares);
    for (; i < d; i++) total += x[i] * x[i];
    float scale = 1.0f / __builtin_sqrtf(total / d + eps);
    for (i = 0; i + LANES <= d; i += LANES) put(out + i, at(x + i) * all(scale) * at(gain + i));
    for (; i < d; i++) out[i] = x[i] * scale * gain[i];
}
