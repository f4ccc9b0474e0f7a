/* The arithmetic of the `cython` kernel of `loops`, compiled once for each instruction set.
 *
 * Which one is used is decided when the program runs, so one build serves every machine of an
 * architecture. Vectors are spelt out (GCC's vector types and a few intrinsics, which clang knows
 * too), because neither compiler vectorises this much arithmetic dependably by itself.
 *
 * The levels, best first: avx512f, avx2+fma and baseline on x86-64; baseline alone elsewhere, with
 * NEON on AArch64. A compiler without GCC's vector types gets one lane.
 */
#ifndef HOTLOOP_LANES_H
#define HOTLOOP_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum {
    LANES = 8, /* items side by side; one AVX-512 vector already keeps the arithmetic units busy */
    BLOCK = 64 /* terms of one item side by side; 32 and 128 were slower */
};

/* All functions of one instruction set. None allocates, fails or touches Python. */
typedef struct {
    const char *name;
    void (*loop_lanes)(const double *start, int64_t cpu_iterations, double *acc);
    double (*loop_item)(double start, int64_t cpu_iterations);
    uint64_t (*nested_item)(
        uint32_t start, uint32_t outer_iterations, uint32_t inner_iterations);
} hotloop_level;

static const double RAMP_DOUBLES[8] = {0, 1, 2, 3, 4, 5, 6, 7};
static const uint32_t RAMP_WORDS[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

#if defined(__GNUC__)
typedef double doubles2 __attribute__((vector_size(16)));
typedef double doubles4 __attribute__((vector_size(32)));
typedef double doubles8 __attribute__((vector_size(64)));
typedef uint64_t bits2 __attribute__((vector_size(16)));
typedef uint64_t bits4 __attribute__((vector_size(32)));
typedef uint64_t bits8 __attribute__((vector_size(64)));
typedef uint32_t words4 __attribute__((vector_size(16)));
typedef uint32_t words8 __attribute__((vector_size(32)));
typedef uint32_t words16 __attribute__((vector_size(64)));
#endif

#if defined(__GNUC__) && defined(__x86_64__)
#define HOTLOOP_X86_64
#include <immintrin.h>

#define LEVEL(name) name##_avx512f
#define LEVEL_NAME "avx512f"
#define TARGET __attribute__((target("avx512f")))
#define DOUBLES doubles8
#define WIDTH 8
#define WORDS words16
#define WORDS_WIDTH 16
#define SPLAT(x) ((doubles8)_mm512_set1_pd(x))
#define FMA(a, b, c) ((doubles8)_mm512_fmadd_pd((a), (b), (c)))
#define SQRT(x) ((doubles8)_mm512_sqrt_pd(x))
#define FLIP(x, m) ((doubles8)((bits8)(x) ^ ((bits8)(m) << 63)))
#define BELOW(w, limit) ((words16)((w) < (limit)))
#include "_lanes_arithmetic.h"

#define LEVEL(name) name##_avx2
#define LEVEL_NAME "avx2+fma"
#define TARGET __attribute__((target("avx2,fma")))
#define DOUBLES doubles4
#define WIDTH 4
#define WORDS words8
#define WORDS_WIDTH 8
#define SPLAT(x) ((doubles4)_mm256_set1_pd(x))
#define FMA(a, b, c) ((doubles4)_mm256_fmadd_pd((a), (b), (c)))
#define SQRT(x) ((doubles4)_mm256_sqrt_pd(x))
#define FLIP(x, m) ((doubles4)((bits4)(x) ^ ((bits4)(m) << 63)))
#define BELOW(w, limit) ((words8)((w) < (limit)))
#include "_lanes_arithmetic.h"
#endif

#define LEVEL(name) name##_baseline
#define LEVEL_NAME "baseline"
#define TARGET
#if defined(__GNUC__)
#define DOUBLES doubles2
#define WIDTH 2
#define WORDS words4
#define WORDS_WIDTH 4
#define SPLAT(x) ((doubles2){(x), (x)})
#define FLIP(x, m) ((doubles2)((bits2)(x) ^ ((bits2)(m) << 63)))
#define BELOW(w, limit) ((words4)((w) < (limit)))
#if defined(__aarch64__)
#include <arm_neon.h>
#define FMA(a, b, c) \
    ((doubles2)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#define SQRT(x) ((doubles2)vsqrtq_f64((float64x2_t)(x)))
#else
#if defined(__FP_FAST_FMA)
#define FMA(a, b, c) ((doubles2){fma((a)[0], (b)[0], (c)[0]), fma((a)[1], (b)[1], (c)[1])})
#else
#include "_lanes_fma.h"
#define FMA(a, b, c) hotloop_fma2((a), (b), (c))
#endif
#define SQRT(x) ((doubles2){sqrt((x)[0]), sqrt((x)[1])})
#endif
#else
INLINE double hotloop_flip(double x, double m)
{
    uint64_t bits, parity;
    memcpy(&bits, &x, sizeof bits);
    memcpy(&parity, &m, sizeof parity);
    bits ^= parity << 63;
    memcpy(&x, &bits, sizeof x);
    return x;
}
#define DOUBLES double
#define WIDTH 1
#define WORDS uint32_t
#define WORDS_WIDTH 1
#define SPLAT(x) (x)
#define FMA(a, b, c) fma((a), (b), (c))
#define SQRT(x) sqrt(x)
#define FLIP(x, m) hotloop_flip((x), (m))
#define BELOW(w, limit) ((w) < (limit) ? UINT32_MAX : 0)
#endif
#include "_lanes_arithmetic.h"

/* Fills `levels`, which has room for 3, with those that this machine can execute, best first, and
 * returns how many there are: at least 1. */
static int hotloop_usable_levels(const hotloop_level **levels)
{
    int count = 0;
#if defined(HOTLOOP_X86_64)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        levels[count++] = &level_avx512f;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        levels[count++] = &level_avx2;
    }
#endif
    levels[count++] = &level_baseline;
    return count;
}

#endif
