//! A parser for the part of CBOR (RFC 8949) that single values and SenML need. Everything is
//! bounded by the bytes of one response.

/// Nesting of arrays and maps that is followed: SenML has two levels.
const DEPTH_MAX: usize = 4;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cbor<'a> {
    /// An integer, or a floating-point number without a fraction.
    Integer(i64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A list.
    Array(Vec<Cbor<'a>>),
    /// Pairs, in the order in which they came.
    Map(Vec<(Cbor<'a>, Cbor<'a>)>),
    /// True, false, null or another value without use here.
    Simple(u8),
}

/// Reads one document; `None` if it is malformed, nested too deeply, of indefinite length, or
/// followed by other bytes.
pub fn parse(bytes: &[u8]) -> Option<Cbor<'_>> {
    let (value, rest) = item(bytes, DEPTH_MAX)?;
    rest.is_empty().then_some(value)
}

fn item(bytes: &[u8], depth: usize) -> Option<(Cbor<'_>, &[u8])> {
    let (&head, rest) = bytes.split_first()?;
    let (major, short) = (head >> 5, head & 0x1F);
    let (argument, rest) = match short {
        0..=23 => (u64::from(short), rest),
        24..=27 => read_uint(rest, 1 << (short - 24))?,
        _ => return None,
    };
    Some(match major {
        0 => (Cbor::Integer(i64::try_from(argument).ok()?), rest),
        1 => (Cbor::Integer(-1 - i64::try_from(argument).ok()?), rest),
        2 | 3 => {
            let (value, rest) = rest.split_at_checked(usize::try_from(argument).ok()?)?;
            match major {
                2 => (Cbor::Bytes(value), rest),
                _ => (Cbor::Text(std::str::from_utf8(value).ok()?), rest),
            }
        }
        4 => {
            let (items, rest) = items(rest, argument, depth.checked_sub(1)?)?;
            (Cbor::Array(items), rest)
        }
        5 => {
            let count = argument.checked_mul(2)?;
            let (items, rest) = items(rest, count, depth.checked_sub(1)?)?;
            (Cbor::Map(pairs(items)), rest)
        }
        6 => item(rest, depth.checked_sub(1)?)?,
        _ => (simple(short, argument)?, rest),
    })
}

fn items(mut bytes: &[u8], count: u64, depth: usize) -> Option<(Vec<Cbor<'_>>, &[u8])> {
    let mut items = Vec::new();
    for _ in 0..count {
        // Each item takes a byte at least, so a large count ends with the bytes.
        let (value, rest) = item(bytes, depth)?;
        items.push(value);
        bytes = rest;
    }
    Some((items, bytes))
}

fn pairs(items: Vec<Cbor<'_>>) -> Vec<(Cbor<'_>, Cbor<'_>)> {
    let mut items = items.into_iter();
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

fn simple(short: u8, argument: u64) -> Option<Cbor<'static>> {
    let number = match short {
        26 => f64::from(f32::from_bits(argument as u32)),
        27 => f64::from_bits(argument),
        _ => return Some(Cbor::Simple(short)),
    };
    exact_integer(number).map(Cbor::Integer)
}

/// A number that has no fraction and is exact as an integer.
pub fn exact_integer(number: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

fn read_uint(bytes: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(count)?;
    let fold = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some((number.iter().fold(0, fold), rest))
}
