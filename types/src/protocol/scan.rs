//! A serializer that writes nothing and looks at the variants of enums.

use std::fmt::Error;

use serde::ser::{self, Serialize, Serializer};

use super::NewVariant;

/// The highest version that a variant within `value` needs.
pub(super) fn highest<T: Serialize>(value: &T, new: &[NewVariant]) -> u32 {
    let mut scan = Scan { new, needed: 1 };
    value.serialize(&mut scan).expect("a scan can't fail");
    scan.needed
}

struct Scan<'a> {
    new: &'a [NewVariant],
    needed: u32,
}

impl Scan<'_> {
    fn variant(&mut self, of: &'static str, variant: &'static str) {
        let named = |new: &&NewVariant| new.of == of && new.variant == variant;
        if let Some(new) = self.new.iter().find(named) {
            self.needed = self.needed.max(new.since);
        }
    }
}

/// Methods for values without variants.
macro_rules! plain {
    ($($method:ident($type:ty))+) => {
        $(fn $method(self, _value: $type) -> Result<(), Error> {
            Ok(())
        })+
    };
}

/// Traits for the parts of a compound value, each of which is scanned.
macro_rules! parts {
    ($($trait:ident $method:ident($($name:ty)?))+) => {
        $(impl ser::$trait for &mut Scan<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $(_name: $name,)?
                value: &T,
            ) -> Result<(), Error> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })+
    };
}

parts! {
    SerializeSeq serialize_element()
    SerializeTuple serialize_element()
    SerializeTupleStruct serialize_field()
    SerializeTupleVariant serialize_field()
    SerializeStruct serialize_field(&'static str)
    SerializeStructVariant serialize_field(&'static str)
}

impl ser::SerializeMap for &mut Scan<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl Serializer for &mut Scan<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    plain! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64)
        serialize_f32(f32) serialize_f64(f64) serialize_char(char)
        serialize_str(&str) serialize_bytes(&[u8]) serialize_unit_struct(&'static str)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        of: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.variant(of, variant);
        Ok(())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        of: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.variant(of, variant);
        value.serialize(self)
    }

    fn serialize_tuple_variant(
        self,
        of: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self, Error> {
        self.variant(of, variant);
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        of: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self, Error> {
        self.variant(of, variant);
        Ok(self)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self, Error> {
        Ok(self)
    }
}
