//! The functions of `audioop` over buffers.
//!
//! They are `audioop_max` and so on in `_core`, where plain names would hide built-ins, and call themselves `max`.
//! Arguments are extracted by hand, because C's argument parser and pyo3 word their refusals differently.

#![expect(
    clippy::redundant_closure_for_method_calls,
    reason = "a method's path stands for one lifetime of the fragment, a closure for any"
)]

use crate::buffer::{Input, detached, new_bytes};
use crate::error::CoreError;
use pyo3::exceptions::{PyMemoryError, PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use speechwire_core::Error;
use speechwire_core::adpcm::State;
use speechwire_core::audioop::{self as core, Fragment, RateConverter, RateState, Refusal, Width};
use speechwire_core::g711::Law;
use std::convert::Infallible;

type Object<'a, 'py> = &'a Bound<'py, PyAny>;
type Bytes<'py> = PyResult<Bound<'py, PyBytes>>;

/// Add every function to the extension.
pub fn add_functions(module: &Bound<'_, PyModule>) -> PyResult<()> {
    macro_rules! add {
        ($($name:literal: $function:ident),* $(,)?) => {
            $(module.add($name, wrap_pyfunction!($function, module)?)?;)*
        };
    }
    add! {
        "audioop_add": add,
        "audioop_adpcm2lin": adpcm2lin,
        "audioop_alaw2lin": alaw2lin,
        "audioop_avg": avg,
        "audioop_avgpp": avgpp,
        "audioop_bias": bias,
        "audioop_byteswap": byteswap,
        "audioop_cross": cross,
        "audioop_findfactor": findfactor,
        "audioop_findfit": findfit,
        "audioop_findmax": findmax,
        "audioop_getsample": getsample,
        "audioop_lin2adpcm": lin2adpcm,
        "audioop_lin2alaw": lin2alaw,
        "audioop_lin2lin": lin2lin,
        "audioop_lin2ulaw": lin2ulaw,
        "audioop_max": max,
        "audioop_maxpp": maxpp,
        "audioop_minmax": minmax,
        "audioop_mul": mul,
        "audioop_ratecv": ratecv,
        "audioop_reverse": reverse,
        "audioop_rms": rms,
        "audioop_tomono": tomono,
        "audioop_tostereo": tostereo,
        "audioop_ulaw2lin": ulaw2lin,
    }
    Ok(())
}

/// Extract a C int from an argument.
#[inline]
fn int(object: Object<'_, '_>) -> PyResult<i32> {
    let too_large = || PyOverflowError::new_err("Python int too large to convert to C int");
    match object.extract::<i64>() {
        Ok(number) => i32::try_from(number).map_err(|_| too_large()),
        Err(error) if error.is_instance_of::<PyOverflowError>(object.py()) => Err(too_large()),
        Err(error) => Err(error),
    }
}

/// Extract a C int from an item of a state.
fn state_int(object: Object<'_, '_>) -> PyResult<i32> {
    let number = object.extract::<i64>()?;
    i32::try_from(number).map_err(|_| {
        let bound = if number > 0 { "greater than maximum" } else { "less than minimum" };
        PyOverflowError::new_err(format!("signed integer is {bound}"))
    })
}

/// Extract an index or a length.
fn size(object: Object<'_, '_>) -> PyResult<isize> {
    object.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyOverflowError>(object.py()) {
            return PyOverflowError::new_err("Python int too large to convert to C ssize_t");
        }
        error
    })
}

/// Measure a fragment.
#[inline]
fn measure<T: Send>(
    fragment: Object<'_, '_>,
    width: Object<'_, '_>,
    measure: impl FnOnce(&Fragment<'_>) -> T + Send,
) -> PyResult<T> {
    let input = Input::of_any_item(fragment)?;
    let checked = Fragment::new(input.as_slice(), int(width)?).map_err(CoreError::from)?;
    Ok(detached(fragment.py(), input.len(), || measure(&checked)))
}

/// Write a fragment of the same length.
#[inline]
fn convert<'py>(
    fragment: Object<'_, 'py>,
    width: Object<'_, 'py>,
    convert_into: impl FnOnce(&Fragment<'_>, &mut [u8]) + Send,
) -> Bytes<'py> {
    let input = Input::of_any_item(fragment)?;
    let checked = Fragment::new(input.as_slice(), int(width)?).map_err(CoreError::from)?;
    new_bytes(fragment.py(), input.len(), input.len(), |output| convert_into(&checked, output))
}

/// Return the value of the sample at an index.
#[pyfunction]
#[pyo3(signature = (fragment, width, index, /))]
fn getsample(fragment: Object<'_, '_>, width: Object<'_, '_>, index: Object<'_, '_>) -> PyResult<i32> {
    let input = Input::of_any_item(fragment)?;
    let (width, index) = (int(width)?, size(index)?);
    let checked = Fragment::new(input.as_slice(), width).map_err(CoreError::from)?;
    Ok(checked.sample(index).map_err(CoreError::from)?)
}

/// Return the largest absolute value.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn max(fragment: Object<'_, '_>, width: Object<'_, '_>) -> PyResult<u32> {
    measure(fragment, width, |fragment| fragment.max())
}

/// Return the smallest and the largest value.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn minmax(fragment: Object<'_, '_>, width: Object<'_, '_>) -> PyResult<(i32, i32)> {
    measure(fragment, width, |fragment| fragment.minmax())
}

/// Return the mean.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn avg(fragment: Object<'_, '_>, width: Object<'_, '_>) -> PyResult<i32> {
    measure(fragment, width, |fragment| fragment.avg())
}

/// Return the root of the mean square.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn rms(fragment: Object<'_, '_>, width: Object<'_, '_>) -> PyResult<u32> {
    measure(fragment, width, |fragment| fragment.rms())
}

/// Return the mean difference between neighbouring extremes.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn avgpp(fragment: Object<'_, '_>, width: Object<'_, '_>) -> PyResult<u32> {
    measure(fragment, width, |fragment| fragment.avgpp())
}

/// Return the largest difference between neighbouring extremes.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn maxpp(fragment: Object<'_, '_>, width: Object<'_, '_>) -> PyResult<u32> {
    measure(fragment, width, |fragment| fragment.maxpp())
}

/// Return how often the sign changes.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn cross(fragment: Object<'_, '_>, width: Object<'_, '_>) -> PyResult<isize> {
    measure(fragment, width, |fragment| fragment.cross())
}

/// Find where a reference fits best into a fragment, and with which factor.
#[pyfunction]
#[pyo3(signature = (fragment, reference, /))]
fn findfit(fragment: Object<'_, '_>, reference: Object<'_, '_>) -> PyResult<(usize, f64)> {
    let (input, searched) = (Input::of_any_item(fragment)?, Input::of_any_item(reference)?);
    // The work grows with the product of the lengths.
    let num_products = input.len().saturating_mul(searched.len());
    let found = detached(fragment.py(), num_products, || core::best_fit(input.as_slice(), searched.as_slice()));
    Ok(found.map_err(CoreError::from)?)
}

/// Return the factor with which a reference comes nearest to a fragment.
#[pyfunction]
#[pyo3(signature = (fragment, reference, /))]
fn findfactor(fragment: Object<'_, '_>, reference: Object<'_, '_>) -> PyResult<f64> {
    let (input, compared) = (Input::of_any_item(fragment)?, Input::of_any_item(reference)?);
    let found = detached(fragment.py(), input.len(), || core::best_factor(input.as_slice(), compared.as_slice()));
    Ok(found.map_err(CoreError::from)?)
}

/// Return where the slice with the most energy starts.
#[pyfunction]
#[pyo3(signature = (fragment, length, /))]
fn findmax(fragment: Object<'_, '_>, length: Object<'_, '_>) -> PyResult<usize> {
    let input = Input::of_any_item(fragment)?;
    let num_samples = size(length)?;
    let found = detached(fragment.py(), input.len(), || core::loudest(input.as_slice(), num_samples));
    Ok(found.map_err(CoreError::from)?)
}

/// Multiply every sample.
#[pyfunction]
#[pyo3(signature = (fragment, width, factor, /))]
fn mul<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>, factor: Object<'_, 'py>) -> Bytes<'py> {
    let input = Input::of_any_item(fragment)?;
    let (width, factor) = (int(width)?, factor.extract()?);
    let checked = Fragment::new(input.as_slice(), width).map_err(CoreError::from)?;
    new_bytes(fragment.py(), input.len(), input.len(), |output| checked.mul_into(factor, output))
}

/// Mix the pairs of samples of a stereo fragment.
#[pyfunction]
#[pyo3(signature = (fragment, width, lfactor, rfactor, /))]
fn tomono<'py>(
    fragment: Object<'_, 'py>,
    width: Object<'_, 'py>,
    lfactor: Object<'_, 'py>,
    rfactor: Object<'_, 'py>,
) -> Bytes<'py> {
    let input = Input::of_any_item(fragment)?;
    let (width, left, right) = (int(width)?, lfactor.extract()?, rfactor.extract()?);
    let checked = Fragment::new_stereo(input.as_slice(), width).map_err(CoreError::from)?;
    new_bytes(fragment.py(), input.len() / 2, input.len(), |output| checked.to_mono_into(left, right, output))
}

/// Make a stereo fragment of a mono fragment.
#[pyfunction]
#[pyo3(signature = (fragment, width, lfactor, rfactor, /))]
fn tostereo<'py>(
    fragment: Object<'_, 'py>,
    width: Object<'_, 'py>,
    lfactor: Object<'_, 'py>,
    rfactor: Object<'_, 'py>,
) -> Bytes<'py> {
    let input = Input::of_any_item(fragment)?;
    let (width, left, right) = (int(width)?, lfactor.extract()?, rfactor.extract()?);
    let checked = Fragment::new(input.as_slice(), width).map_err(CoreError::from)?;
    let num_bytes = checked.width().num_bytes(checked.num_samples() * 2).map_err(CoreError::from)?;
    new_bytes(fragment.py(), num_bytes, input.len(), |output| checked.to_stereo_into(left, right, output))
}

/// Add two fragments.
#[pyfunction]
#[pyo3(signature = (fragment1, fragment2, width, /))]
fn add<'py>(fragment1: Object<'_, 'py>, fragment2: Object<'_, 'py>, width: Object<'_, 'py>) -> Bytes<'py> {
    let (input, addend) = (Input::of_any_item(fragment1)?, Input::of_any_item(fragment2)?);
    let checked = Fragment::new(input.as_slice(), int(width)?).map_err(CoreError::from)?;
    checked.check_addend(addend.as_slice()).map_err(CoreError::from)?;
    new_bytes(fragment1.py(), input.len(), input.len(), |output| checked.add_into(addend.as_slice(), output))
}

/// Add a number to every sample.
#[pyfunction]
#[pyo3(signature = (fragment, width, bias, /))]
fn bias<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>, bias: Object<'_, 'py>) -> Bytes<'py> {
    let input = Input::of_any_item(fragment)?;
    let (width, bias) = (int(width)?, int(bias)?);
    let checked = Fragment::new(input.as_slice(), width).map_err(CoreError::from)?;
    new_bytes(fragment.py(), input.len(), input.len(), |output| checked.bias_into(bias, output))
}

/// Put the samples into the opposite order.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn reverse<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>) -> Bytes<'py> {
    convert(fragment, width, |fragment, output| fragment.reverse_into(output))
}

/// Put the bytes of every sample into the opposite order.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn byteswap<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>) -> Bytes<'py> {
    convert(fragment, width, |fragment, output| fragment.swap_bytes_into(output))
}

/// Change the width of the samples.
#[pyfunction]
#[pyo3(signature = (fragment, width, newwidth, /))]
fn lin2lin<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>, newwidth: Object<'_, 'py>) -> Bytes<'py> {
    let input = Input::of_any_item(fragment)?;
    let (from, to) = (int(width)?, int(newwidth)?);
    let checked = Fragment::new(input.as_slice(), from).map_err(CoreError::from)?;
    let to = Width::new(to).map_err(CoreError::from)?;
    let num_bytes = to.num_bytes(checked.num_samples()).map_err(CoreError::from)?;
    new_bytes(fragment.py(), num_bytes, input.len(), |output| checked.widen_into(to, output))
}

/// An argument that may be missing, which is not the same as None.
struct Weight<'a, 'py>(Option<Borrowed<'a, 'py, PyAny>>);

impl<'a, 'py> FromPyObject<'a, 'py> for Weight<'a, 'py> {
    type Error = Infallible;

    fn extract(object: Borrowed<'a, 'py, PyAny>) -> Result<Self, Infallible> {
        Ok(Self(Some(object)))
    }
}

impl Weight<'_, '_> {
    fn or(self, default: i32) -> PyResult<i32> {
        self.0.map_or(Ok(default), |object| int(&object))
    }
}

type RateResult<'py> = PyResult<(Bound<'py, PyBytes>, (i32, Bound<'py, PyTuple>))>;

/// Convert the sample rate.
#[pyfunction]
#[pyo3(signature = (fragment, width, nchannels, inrate, outrate, state, weightA = Weight(None), weightB = Weight(None), /))]
#[pyo3(text_signature = "(fragment, width, nchannels, inrate, outrate, state, weightA=1, weightB=0, /)")]
#[expect(clippy::too_many_arguments, non_snake_case, reason = "the signature is that of the standard library")]
fn ratecv<'py>(
    fragment: Object<'_, 'py>,
    width: Object<'_, 'py>,
    nchannels: Object<'_, 'py>,
    inrate: Object<'_, 'py>,
    outrate: Object<'_, 'py>,
    state: Object<'_, 'py>,
    weightA: Weight<'_, 'py>,
    weightB: Weight<'_, 'py>,
) -> RateResult<'py> {
    let py = fragment.py();
    let input = Input::of_any_item(fragment)?;
    let (width, num_channels, rates) = (int(width)?, int(nchannels)?, (int(inrate)?, int(outrate)?));
    let weights = (weightA.or(1)?, weightB.or(0)?);
    let converter = RateConverter::new(input.len(), width, num_channels, rates, weights).map_err(CoreError::from)?;
    let mut state = rate_state(state, &converter)?;
    let num_bytes = converter.output_bytes(input.len(), &state).map_err(CoreError::from)?;
    let output = new_bytes(py, num_bytes, input.len(), |output| {
        converter.convert_into(input.as_slice(), &mut state, output);
    });
    let output = output.map_err(|error| {
        if error.is_instance_of::<PyMemoryError>(py) { refusal(Refusal::OutputTooLong) } else { error }
    })?;
    Ok((output, (state.phase, PyTuple::new(py, state.channels)?)))
}

fn rate_state(state: Object<'_, '_>, converter: &RateConverter) -> PyResult<RateState> {
    if state.is_none() {
        return Ok(converter.start());
    }
    let illegal = || PyTypeError::new_err("ratecv(): illegal state argument");
    let state = state.cast::<PyTuple>().map_err(|_| PyTypeError::new_err("state must be a tuple or None"))?;
    if state.len() != 2 {
        return Err(illegal());
    }
    let phase = state_int(&state.get_item(0)?)?;
    let pairs = state.get_item(1)?;
    let pairs = pairs.cast::<PyTuple>().map_err(|_| illegal())?;
    if pairs.len() != converter.num_channels() {
        return Err(refusal(Refusal::RateState));
    }
    let channels = pairs.iter().map(|pair| match pair.cast::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => Ok((state_int(&pair.get_item(0)?)?, state_int(&pair.get_item(1)?)?)),
        _ => Err(illegal()),
    });
    Ok(RateState { phase, channels: channels.collect::<PyResult<_>>()? })
}

fn refusal(refusal: Refusal) -> PyErr {
    CoreError::from(Error::from(refusal)).into()
}

fn encode<'py>(law: Law, fragment: Object<'_, 'py>, width: Object<'_, 'py>) -> Bytes<'py> {
    let input = Input::of_any_item(fragment)?;
    let checked = Fragment::new(input.as_slice(), int(width)?).map_err(CoreError::from)?;
    new_bytes(fragment.py(), checked.num_samples(), input.len(), |codes| checked.encode_into(law, codes))
}

fn decode<'py>(law: Law, fragment: Object<'_, 'py>, width: Object<'_, 'py>) -> Bytes<'py> {
    let input = Input::of_any_item(fragment)?;
    let codes = input.as_slice();
    let width = Width::new(int(width)?).map_err(CoreError::from)?;
    let num_bytes = width.num_bytes(codes.len()).map_err(CoreError::from)?;
    new_bytes(fragment.py(), num_bytes, codes.len(), |pcm| core::decode_into(law, codes, width, pcm))
}

/// Encode samples in mu-law.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn lin2ulaw<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>) -> Bytes<'py> {
    encode(Law::Ulaw, fragment, width)
}

/// Decode mu-law.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn ulaw2lin<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>) -> Bytes<'py> {
    decode(Law::Ulaw, fragment, width)
}

/// Encode samples in A-law.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn lin2alaw<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>) -> Bytes<'py> {
    encode(Law::Alaw, fragment, width)
}

/// Decode A-law.
#[pyfunction]
#[pyo3(signature = (fragment, width, /))]
fn alaw2lin<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>) -> Bytes<'py> {
    decode(Law::Alaw, fragment, width)
}

fn adpcm_state(state: Object<'_, '_>, function: &str) -> PyResult<State> {
    if state.is_none() {
        return Ok(State::default());
    }
    let state = state.cast::<PyTuple>().map_err(|_| PyTypeError::new_err("state must be a tuple or None"))?;
    if state.len() != 2 {
        return Err(PyTypeError::new_err(format!("{function}(): illegal state argument")));
    }
    let (predictor, step_index) = (state_int(&state.get_item(0)?)?, state_int(&state.get_item(1)?)?);
    let (predictor, step_index) = (i16::try_from(predictor).ok(), u8::try_from(step_index).ok());
    let state = predictor.zip(step_index).and_then(|(predictor, step_index)| State::new(predictor, step_index));
    state.ok_or_else(|| refusal(Refusal::AdpcmState))
}

type AdpcmResult<'py> = PyResult<(Bound<'py, PyBytes>, (i16, u8))>;

/// Encode samples in IMA ADPCM.
#[pyfunction]
#[pyo3(signature = (fragment, width, state, /))]
fn lin2adpcm<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>, state: Object<'_, 'py>) -> AdpcmResult<'py> {
    let input = Input::of_any_item(fragment)?;
    let checked = Fragment::new(input.as_slice(), int(width)?).map_err(CoreError::from)?;
    let mut state = adpcm_state(state, "lin2adpcm")?;
    let codes = new_bytes(fragment.py(), checked.num_samples() / 2, input.len(), |codes| {
        state = checked.encode_adpcm_into(state, codes);
    })?;
    Ok((codes, (state.predictor(), state.step_index())))
}

/// Decode IMA ADPCM.
#[pyfunction]
#[pyo3(signature = (fragment, width, state, /))]
fn adpcm2lin<'py>(fragment: Object<'_, 'py>, width: Object<'_, 'py>, state: Object<'_, 'py>) -> AdpcmResult<'py> {
    let input = Input::of_any_item(fragment)?;
    let codes = input.as_slice();
    let width = Width::new(int(width)?).map_err(CoreError::from)?;
    let mut state = adpcm_state(state, "adpcm2lin")?;
    let num_bytes = codes.len().checked_mul(2).ok_or_else(|| refusal(Refusal::OutputTooLong))?;
    let num_bytes = width.num_bytes(num_bytes).map_err(CoreError::from)?;
    let pcm = new_bytes(fragment.py(), num_bytes, codes.len(), |pcm| {
        state = core::decode_adpcm_into(codes, width, state, pcm);
    })?;
    Ok((pcm, (state.predictor(), state.step_index())))
}
