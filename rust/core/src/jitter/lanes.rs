//! Arithmetic that the compiler does for several numbers at a time, on any CPU.

/// So many numbers of a signal are worked on together.
pub(super) const LANES: usize = 8;

/// From 2^23 on floats are whole numbers, so that adding it rounds; half as much again lets numbers below zero be rounded
/// too. A cast to an integer would not be done in lanes, because of the numbers that do not fit.
pub(super) const WHOLE: f32 = 12_582_912.0;

/// Round down a number between -2^22 and 2^22.
#[inline(always)]
pub(super) fn floor(number: f32) -> f32 {
    let nearest = number + WHOLE - WHOLE;
    if nearest > number { nearest - 1.0 } else { nearest }
}

/// Round up a number between -2^22 and 2^22.
#[inline(always)]
pub(super) fn ceil(number: f32) -> f32 {
    let nearest = number + WHOLE - WHOLE;
    if nearest < number { nearest + 1.0 } else { nearest }
}

/// What `f32::max` would say of numbers that are not NaN, for which one instruction is enough.
#[inline(always)]
pub(super) fn larger(left: f32, right: f32) -> f32 {
    if left > right { left } else { right }
}

/// What `f32::min` would say, likewise.
#[inline(always)]
pub(super) fn smaller(left: f32, right: f32) -> f32 {
    if left < right { left } else { right }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounding_is_that_of_the_standard_library(number in -4_194_304.0_f32..4_194_304.0) {
            prop_assert!((floor(number) - number.floor()).abs() < f32::EPSILON);
            prop_assert!((ceil(number) - number.ceil()).abs() < f32::EPSILON);
        }
    }
}
