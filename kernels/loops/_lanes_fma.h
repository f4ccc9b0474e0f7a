/* The fused multiply-add for a processor that has none: the same bits by additions and products.
 *
 * The C library's fma() is exact too, but without the instruction it took 25 times as long and made
 * the kernel slower than the python one.
 *
 * The product is taken apart exactly (Dekker 1971, splitting by Veltkamp), and so are two sums
 * (Knuth). The two smallest parts are added with rounding to odd, after which one more addition
 * rounds as if everything had been added at once: S. Boldo and G. Melquiond, "Emulation of FMA and
 * correctly rounded sums: proved algorithms using rounding to odd", IEEE Transactions on Computers
 * 57 (2008). Their condition is that nothing overflows or underflows. The first holds for all
 * operands here; where a product underflows here, it is too small to change the sum.
 */
INLINE doubles2 hotloop_sum2(doubles2 a, doubles2 b, doubles2 *rest)
{
    const doubles2 sum = a + b;
    const doubles2 part = sum - a;
    *rest = (a - (sum - part)) + (b - part);
    return sum;
}

INLINE doubles2 hotloop_fma2(doubles2 a, doubles2 b, doubles2 c)
{
    const doubles2 a_split = a * 0x1.0000002p27, b_split = b * 0x1.0000002p27;
    const doubles2 a_high = a_split - (a_split - a), b_high = b_split - (b_split - b);
    const doubles2 a_low = a - a_high, b_low = b - b_high;
    const doubles2 product = a * b;
    const doubles2 product_rest =
        (((a_high * b_high - product) + a_high * b_low) + a_low * b_high) + a_low * b_low;

    doubles2 low_rest, high_rest, odd_rest;
    const doubles2 low = hotloop_sum2(c, product_rest, &low_rest);
    const doubles2 high = hotloop_sum2(product, low, &high_rest);
    const doubles2 nearest = hotloop_sum2(low_rest, high_rest, &odd_rest);

    /* To odd: an inexact sum whose last bit is 0 moves by one unit towards what was cut off. */
    const bits2 bits = (bits2)nearest;
    const bits2 inexact = (bits2)(odd_rest != 0.0);
    const bits2 even = (bits & 1) - 1;
    const bits2 step = 1 - (((bits ^ (bits2)odd_rest) >> 63) << 1);
    return high + (doubles2)(bits + (step & inexact & even));
}
