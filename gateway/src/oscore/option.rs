//! The OSCORE option (RFC 8613, section 6.1): number, id context and id of the sender, of which a
//! response may have none.

/// Number of the option.
pub const OSCORE: u16 = 9;
const KID: u8 = 0x08;
const KID_CONTEXT: u8 = 0x10;
const RESERVED: u8 = 0xE0;

/// The number of a message, as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialIv {
    bytes: [u8; PartialIv::BYTES_MAX],
    length: usize,
}

impl PartialIv {
    /// Most bytes of a number.
    pub const BYTES_MAX: usize = 5;
    /// The numbers that fit.
    pub const COUNT: u64 = 1 << (8 * PartialIv::BYTES_MAX);

    /// The shortest form of a number; `None` if it is too large.
    pub fn new(number: u64) -> Option<PartialIv> {
        let zeros = (number.leading_zeros() / 8).min(7) as usize;
        PartialIv::read(&number.to_be_bytes()[zeros..])
    }

    /// The number in these bytes, which may begin with zeros; `None` for none or too many.
    fn read(value: &[u8]) -> Option<PartialIv> {
        let mut bytes = [0; PartialIv::BYTES_MAX];
        let length = value.len();
        bytes.get_mut(..length)?.copy_from_slice(value);
        (length > 0).then_some(PartialIv { bytes, length })
    }

    /// Its bytes on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The number.
    pub fn number(&self) -> u64 {
        let fold = |sum, byte: &u8| sum << 8 | u64::from(*byte);
        self.bytes().iter().fold(0, fold)
    }
}

/// The value of the option.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OscoreOption {
    /// The number of the message.
    pub partial_iv: Option<PartialIv>,
    /// The id context.
    pub kid_context: Option<Vec<u8>>,
    /// The id of the sender.
    pub kid: Option<Vec<u8>>,
}

impl OscoreOption {
    /// The bytes of the option.
    pub fn encode(&self) -> Vec<u8> {
        let number = self.partial_iv.as_ref().map_or(&[][..], PartialIv::bytes);
        let mut flags = number.len() as u8;
        flags |= if self.kid.is_some() { KID } else { 0 };
        flags |= if self.kid_context.is_some() {
            KID_CONTEXT
        } else {
            0
        };
        if flags == 0 {
            return Vec::new();
        }
        let mut bytes = vec![flags];
        bytes.extend(number);
        if let Some(context) = &self.kid_context {
            bytes.push(context.len() as u8);
            bytes.extend(context);
        }
        bytes.extend(self.kid.iter().flatten());
        bytes
    }

    /// Reads the option; `None` if it is malformed.
    pub fn decode(value: &[u8]) -> Option<OscoreOption> {
        let Some((&flags, rest)) = value.split_first() else {
            return Some(OscoreOption::default());
        };
        if flags == 0 || flags & RESERVED != 0 {
            return None;
        }
        let (number, mut rest) = rest.split_at_checked(usize::from(flags & 7))?;
        let partial_iv = match number {
            [] => None,
            _ => Some(PartialIv::read(number)?),
        };
        let mut kid_context = None;
        if flags & KID_CONTEXT != 0 {
            let (&length, after) = rest.split_first()?;
            let (context, after) = after.split_at_checked(usize::from(length))?;
            kid_context = Some(context.to_vec());
            rest = after;
        }
        let kid = (flags & KID != 0).then(|| rest.to_vec());
        if kid.is_none() && !rest.is_empty() {
            return None;
        }
        Some(OscoreOption {
            partial_iv,
            kid_context,
            kid,
        })
    }
}
