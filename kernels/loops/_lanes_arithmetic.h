/* The arithmetic of `loops` on vectors. `_lanes.h` includes this file once for each instruction
 * set, having defined what differs between them:
 *
 *   LEVEL(name)      the name of a function at this level
 *   TARGET           the attribute that lets the compiler use the instruction set
 *   DOUBLES          a vector of WIDTH doubles, with its own + - *
 *   WORDS            a vector of WORDS_WIDTH uint32_t, with its own + * % &
 *   SPLAT(x)         x in every element
 *   FMA(a, b, c)     a * b + c rounded once; SQRT(x) rounded once
 *   FLIP(x, m)       x with its sign changed where the lowest bit of m is set
 *   BELOW(w, limit)  all bits set where w < limit, else 0
 *
 * Every operation rounds as IEEE 754 demands and their order is written out, so the bits of a
 * result depend neither on the level, nor on the compiler, nor on the place in a vector.
 * `_numba.py` has the same operations in the same order.
 */

/* sqrt(t) * sin(t) * cos(t) for 0 <= t < 2**24.
 *
 * Reduction (Cody and Waite): t = q * pi/2 + r, pi/2 as the sum of three doubles. Adding 1.5 * 2**52
 * rounds to an integer, which then stands in the lowest bits. The first FMA is exact: its result is
 * below 1 and a multiple of 2**-53 as soon as q is not 0. The three parts miss pi/2 by less than
 * 2**-160, so r by less than 2**-136; and no double below 2**24 is nearer than 2**-61 to a multiple
 * of pi/2, so r keeps all its digits.
 *
 * sin and cos of r are the minimax polynomials of fdlibm (Sun Microsystems, 1993; k_sin.c and
 * k_cos.c: S1 to S6, C1 to C6), here evaluated with FMA.
 *
 * A quarter turn exchanges sin and cos and changes the sign of one of them, so the product only
 * changes its sign with each: the parity of q is all that is needed.
 *
 * The term is within 4 ulp; 3.3 is the most that was found. */
TARGET INLINE DOUBLES LEVEL(term)(DOUBLES t)
{
    const DOUBLES shifted = FMA(t, SPLAT(0x1.45f306dc9c883p-1), SPLAT(0x1.8p52));
    const DOUBLES q = shifted - SPLAT(0x1.8p52);
    DOUBLES r = FMA(q, SPLAT(-0x1.921fb54442d18p+0), t);
    r = FMA(q, SPLAT(-0x1.1a62633145c07p-54), r);
    r = FMA(q, SPLAT(0x1.f1976b7ed8fbcp-110), r);
    const DOUBLES z = r * r;

    DOUBLES sine = SPLAT(1.58969099521155010221e-10);
    sine = FMA(sine, z, SPLAT(-2.50507602534068634195e-08));
    sine = FMA(sine, z, SPLAT(2.75573137070700676789e-06));
    sine = FMA(sine, z, SPLAT(-1.98412698298579493134e-04));
    sine = FMA(sine, z, SPLAT(8.33333333332248946124e-03));
    sine = FMA(sine, z, SPLAT(-1.66666666666666324348e-01));
    sine = FMA(r * z, sine, r);

    DOUBLES cosine = SPLAT(-1.13596475577881948265e-11);
    cosine = FMA(cosine, z, SPLAT(2.08757232129817482790e-09));
    cosine = FMA(cosine, z, SPLAT(-2.75573143513906633035e-07));
    cosine = FMA(cosine, z, SPLAT(2.48015872894767294178e-05));
    cosine = FMA(cosine, z, SPLAT(-1.38888888888741095749e-03));
    cosine = FMA(cosine, z, SPLAT(4.16666666666666019037e-02));
    cosine = FMA(cosine, z, SPLAT(-0.5));
    cosine = FMA(cosine, z, SPLAT(1.0));

    return FLIP(SQRT(t) * sine * cosine, shifted);
}

/* `loop` of LANES items: items in lanes, each with its own sum. */
TARGET static void LEVEL(loop_lanes)(const double *start, int64_t cpu_iterations, double *acc)
{
    DOUBLES starts[LANES / WIDTH], sums[LANES / WIDTH];
    memcpy(starts, start, sizeof starts);
    for (int v = 0; v < LANES / WIDTH; v++) {
        sums[v] = SPLAT(0.0);
    }
    for (int64_t i = 0; i < cpu_iterations; i++) {
        const DOUBLES turn = SPLAT((double)i);
        for (int v = 0; v < LANES / WIDTH; v++) {
            sums[v] += LEVEL(term)(starts[v] + turn);
        }
    }
    memcpy(acc, sums, sizeof sums);
}

/* `loop` of one item: a block of its terms in lanes, then added one after the other. A block at the
 * end is computed whole and added in part. */
TARGET static double LEVEL(loop_item)(double start, int64_t cpu_iterations)
{
    const DOUBLES starts = SPLAT(start);
    double terms[BLOCK], acc = 0.0;
    DOUBLES ramp;
    memcpy(&ramp, RAMP_DOUBLES, sizeof ramp);
    for (int64_t i = 0; i < cpu_iterations; i += BLOCK) {
        for (int k = 0; k < BLOCK; k += WIDTH) {
            const DOUBLES term = LEVEL(term)(starts + (SPLAT((double)(i + k)) + ramp));
            memcpy(terms + k, &term, sizeof term);
        }
        if (cpu_iterations - i >= BLOCK) {
            for (int k = 0; k < BLOCK; k++) {
                acc += terms[k];
            }
        } else {
            for (int k = 0; k < cpu_iterations - i; k++) {
                acc += terms[k];
            }
        }
    }
    return acc;
}

/* `nested` of one item: a row of its terms in lanes. Integers are exact, so the order of additions
 * is free, and the longer count can be the row.
 *
 * i * j < 10**9 and start < 2**31, so a dividend is below 2**32: every operation fits 32 bits. An
 * element of `sums` adds at most 100,000 / WORDS_WIDTH + 1 remainders below 1000, which fits too.
 * Compilers turn `% 1000` into a multiplication that is exact for all of uint32_t. */
TARGET static uint64_t LEVEL(nested_item)(
    uint32_t start, uint32_t outer_iterations, uint32_t inner_iterations)
{
    const uint32_t rows = outer_iterations < inner_iterations ? outer_iterations : inner_iterations;
    const uint32_t row = outer_iterations < inner_iterations ? inner_iterations : outer_iterations;
    uint32_t parts[WORDS_WIDTH];
    uint64_t total = 0;
    WORDS ramp;
    memcpy(&ramp, RAMP_WORDS, sizeof ramp);
    for (uint32_t i = 0; i < rows; i++) {
        WORDS dividends = ramp * i + start;
        WORDS sums = ramp * 0;
        uint32_t j = 0;
        for (; j + WORDS_WIDTH <= row; j += WORDS_WIDTH) {
            sums += dividends % 1000;
            dividends += i * WORDS_WIDTH;
        }
        sums += (dividends % 1000) & BELOW(ramp, row - j);
        memcpy(parts, &sums, sizeof parts);
        for (int k = 0; k < WORDS_WIDTH; k++) {
            total += parts[k];
        }
    }
    return total;
}

static const hotloop_level LEVEL(level) = {
    LEVEL_NAME, LEVEL(loop_lanes), LEVEL(loop_item), LEVEL(nested_item)};

#undef LEVEL
#undef LEVEL_NAME
#undef TARGET
#undef DOUBLES
#undef WIDTH
#undef WORDS
#undef WORDS_WIDTH
#undef SPLAT
#undef FMA
#undef SQRT
#undef FLIP
#undef BELOW
