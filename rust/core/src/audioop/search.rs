//! Finding one fragment of 16-bit samples in another.

use super::Refusal;
use super::measure::{Sum, sum_is_exact};
use super::sample::{samples, value};
use crate::Result;
use std::ops::Sub;

/// Squares and products of 16-bit samples are at most 2^30.
const PRODUCT_BITS: usize = 30;

/// Return where a reference fits best into a fragment, and the factor it fits with.
///
/// What is minimised is the energy that is left after the reference has been subtracted, in relation to the energy of
/// the fragment at that place.
pub fn best_fit(fragment: &[u8], reference: &[u8]) -> Result<(usize, f64)> {
    let (fragment, reference) = (words(fragment)?, words(reference)?);
    if fragment.len() < reference.len() {
        return Err(Refusal::ReferenceTooLong.into());
    }
    // The energy of a place is that of the place before, plus one square, minus one.
    if sum_is_exact(reference.len() + 2, PRODUCT_BITS) {
        Ok(fit::<i64>(fragment, reference))
    } else {
        Ok(fit::<f64>(fragment, reference))
    }
}

/// Return the factor with which a reference has to be multiplied to be nearest to a fragment of the same length.
pub fn best_factor(fragment: &[u8], reference: &[u8]) -> Result<f64> {
    // Both lengths are checked before they are compared.
    let (fragment, reference) = (words(fragment)?, words(reference)?);
    if fragment.len() != reference.len() {
        return Err(Refusal::SizesDiffer.into());
    }
    if sum_is_exact(reference.len(), PRODUCT_BITS) {
        Ok(dot::<i64>(fragment, reference).to_double() / dot::<i64>(reference, reference).to_double())
    } else {
        Ok(dot::<f64>(fragment, reference) / dot::<f64>(reference, reference))
    }
}

/// Return where the slice of `num_samples` samples with the most energy starts.
pub fn loudest(fragment: &[u8], num_samples: isize) -> Result<usize> {
    let fragment = words(fragment)?;
    let num_samples = usize::try_from(num_samples).map_err(|_| Refusal::SliceTooLong)?;
    if fragment.len() < num_samples {
        return Err(Refusal::SliceTooLong.into());
    }
    if sum_is_exact(num_samples + 2, PRODUCT_BITS) {
        Ok(loudest_slice::<i64>(fragment, num_samples))
    } else {
        Ok(loudest_slice::<f64>(fragment, num_samples))
    }
}

fn words(bytes: &[u8]) -> Result<&[[u8; 2]]> {
    if bytes.len().is_multiple_of(2) { Ok(samples(bytes)) } else { Err(Refusal::OddBytes.into()) }
}

fn square<T: Sum>(sample: [u8; 2]) -> T {
    T::from(value(sample) * value(sample))
}

fn dot<T: Sum>(left: &[[u8; 2]], right: &[[u8; 2]]) -> T {
    let mut sum = T::default();
    for (left, right) in left.iter().zip(right) {
        sum += T::from(value(*left) * value(*right));
    }
    sum
}

fn fit<T: Sum + Sub<Output = T>>(fragment: &[[u8; 2]], reference: &[[u8; 2]]) -> (usize, f64) {
    let num_samples = reference.len();
    let reference_energy = dot::<T>(reference, reference).to_double();
    let distance = |energy: T, product: T| {
        let (energy, product) = (energy.to_double(), product.to_double());
        (reference_energy * energy - product * product) / energy
    };
    let mut energy = dot::<T>(&fragment[..num_samples], &fragment[..num_samples]);
    let mut best_product = dot::<T>(&fragment[..num_samples], reference);
    let (mut best_place, mut best_distance) = (0, distance(energy, best_product));
    for place in 1..=fragment.len() - num_samples {
        let slice = &fragment[place..place + num_samples];
        // Without samples, what enters is also what leaves.
        let (left, entered) = (fragment[place - 1], fragment[place + num_samples - 1]);
        energy = energy + square(entered) - square(left);
        let product = dot::<T>(slice, reference);
        let distance = distance(energy, product);
        // A distance that is not a number is never better, and nothing is better than it.
        if distance < best_distance {
            (best_place, best_distance, best_product) = (place, distance, product);
        }
    }
    (best_place, best_product.to_double() / reference_energy)
}

fn loudest_slice<T: Sum + Sub<Output = T> + PartialOrd>(fragment: &[[u8; 2]], num_samples: usize) -> usize {
    let mut energy = dot::<T>(&fragment[..num_samples], &fragment[..num_samples]);
    let (mut best_place, mut best_energy) = (0, energy);
    for (index, (left, entered)) in fragment.iter().zip(&fragment[num_samples..]).enumerate() {
        energy = energy + square(*entered) - square(*left);
        if energy > best_energy {
            (best_place, best_energy) = (index + 1, energy);
        }
    }
    best_place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcm(values: &[i16]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn a_slice_is_found_with_its_factor() {
        let fragment = pcm(&[1, 2, 4, 0, -8, 6, 1]);
        assert_eq!(best_fit(&fragment, &pcm(&[2, 0, -4])), Ok((2, 2.0)));
        assert_eq!(best_factor(&pcm(&[2, 4]), &pcm(&[1, 2])), Ok(2.0));
        assert_eq!(loudest(&fragment, 2), Ok(4));
    }

    #[test]
    fn silence_and_nothing_are_searched_too() {
        assert!(best_factor(&[], &[]).is_ok_and(f64::is_nan));
        assert!(best_fit(&pcm(&[0, 0]), &pcm(&[0])).is_ok_and(|(place, factor)| place == 0 && factor.is_nan()));
        assert!(best_fit(&pcm(&[1, 2]), &[]).is_ok_and(|(place, factor)| place == 0 && factor.is_nan()));
        assert_eq!(loudest(&pcm(&[1, 2]), 0), Ok(0));
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(best_fit(&[0], &[]), Err(Refusal::OddBytes.into()));
        assert_eq!(best_fit(&[], &[0, 0]), Err(Refusal::ReferenceTooLong.into()));
        assert_eq!(best_factor(&[], &[0, 0]), Err(Refusal::SizesDiffer.into()));
        assert_eq!(loudest(&[0, 0], 2), Err(Refusal::SliceTooLong.into()));
        assert_eq!(loudest(&[0, 0], -1), Err(Refusal::SliceTooLong.into()));
    }

    #[test]
    fn integers_and_doubles_find_the_same() {
        let bytes: Vec<u8> = (0..2000_u32).map(|byte| ((byte * byte * 7) >> 5) as u8).collect();
        let (fragment, reference) = (words(&bytes).expect("even"), words(&bytes[300..700]).expect("even"));
        assert_eq!(fit::<i64>(fragment, reference), fit::<f64>(fragment, reference));
        assert_eq!(loudest_slice::<i64>(fragment, 90), loudest_slice::<f64>(fragment, 90));
    }
}
