//! The length of an item's encoding, computed from its shape alone. Nothing is written, so a write does not pay for an
//! encoding that is made later or never.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

/// The reason for which there is no length.
#[derive(Debug)]
pub(super) enum Stop {
    /// The item nests too deeply. This is detected before the recursion enters the level, so it also ends the
    /// recursion.
    TooDeep,
    /// The item contains something whose length only the encoder knows: a float, a tag, a 128-bit number. In a key, a
    /// map counts as well: only the encoder detects that it lists a key twice.
    AskTheEncoder,
    /// `Serialize` returned an error.
    Refused(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => f.write_str("nested too deeply"),
            Self::AskTheEncoder => f.write_str("not measured"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::Refused(why.to_string())
    }
}

/// The measurement so far.
pub(super) struct Measure {
    len: usize,
    depth: usize,
    limit: usize,
    /// Set in addition to the error, because a `Serialize` may discard the error. So is `unsure`.
    too_deep: bool,
    /// True if only the encoder knows the length.
    unsure: bool,
    is_key: bool,
}

impl Measure {
    /// Returns the length of `value`, which may nest `limit` levels deep.
    pub(super) fn of<T: Serialize + ?Sized>(value: &T, limit: usize) -> Result<usize, Stop> {
        Self::run(value, limit, false)
    }

    /// Returns the length of `key`, or [`Stop::AskTheEncoder`] if the key contains a map.
    pub(super) fn of_key<T: Serialize + ?Sized>(key: &T, limit: usize) -> Result<usize, Stop> {
        Self::run(key, limit, true)
    }

    fn run<T: Serialize + ?Sized>(value: &T, limit: usize, is_key: bool) -> Result<usize, Stop> {
        let mut measure = Self { len: 0, depth: 0, limit, too_deep: false, unsure: false, is_key };
        let result = value.serialize(&mut measure);
        match result {
            _ if measure.too_deep => Err(Stop::TooDeep),
            _ if measure.unsure => Err(Stop::AskTheEncoder),
            result => result.map(|()| measure.len),
        }
    }

    /// Counts a head whose argument is `number`.
    #[inline]
    fn head(&mut self, number: u64) {
        let size = match number {
            0..24 => 1,
            24..0x100 => 2,
            0x100..0x1_0000 => 3,
            0x1_0000..0x1_0000_0000 => 5,
            _ => 9,
        };
        self.len = self.len.saturating_add(size);
    }

    #[inline]
    fn bytes(&mut self, len: usize) {
        self.head(len as u64);
        self.len = self.len.saturating_add(len);
    }

    #[inline]
    fn enter(&mut self) -> Result<(), Stop> {
        if self.depth >= self.limit {
            self.too_deep = true;
            return Err(Stop::TooDeep);
        }
        self.depth += 1;
        Ok(())
    }

    fn ask(&mut self) -> Result<(), Stop> {
        self.unsure = true;
        Err(Stop::AskTheEncoder)
    }

    /// Opens a container of `length` items, or of an unknown number.
    #[inline]
    fn open(&mut self, length: Option<usize>) -> Result<Inside<'_>, Stop> {
        self.enter()?;
        match length {
            Some(length) => self.head(length as u64),
            // A container of indefinite length takes one byte for its head and one for the break.
            None => self.len = self.len.saturating_add(2),
        }
        Ok(Inside { measure: self, levels: 1, announced: length, items: 0 })
    }

    /// Opens the map from a variant's name to its content.
    fn open_variant(&mut self, name: &str, variant: &str, length: usize) -> Result<Inside<'_>, Stop> {
        // `ciborium` represents a tag as an enum of this name.
        if name == "@@TAG@@" {
            self.ask()?;
        }
        self.enter()?;
        self.head(1);
        self.bytes(variant.len());
        let inside = self.open(Some(length))?;
        Ok(Inside { levels: 2, ..inside })
    }
}

/// A container that is being measured.
pub(super) struct Inside<'a> {
    measure: &'a mut Measure,
    /// The levels that the container opened: two for the content of an enum's variant, otherwise one.
    levels: usize,
    /// The number of items according to the head; `None` for an indefinite length.
    announced: Option<usize>,
    items: usize,
}

impl Inside<'_> {
    /// Closes the container. Fails if the announced number of items is wrong: the bytes that follow would be misread.
    fn leave(self) -> Result<(), Stop> {
        if let Some(announced) = self.announced.filter(|announced| *announced != self.items) {
            return Err(Stop::Refused(format!(
                "its `Serialize` announces {announced} items and writes {}",
                self.items
            )));
        }
        self.measure.depth -= self.levels;
        Ok(())
    }
}

impl<'a> Serializer for &'a mut Measure {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = Inside<'a>;
    type SerializeTuple = Inside<'a>;
    type SerializeTupleStruct = Inside<'a>;
    type SerializeTupleVariant = Inside<'a>;
    type SerializeMap = Inside<'a>;
    type SerializeStruct = Inside<'a>;
    type SerializeStructVariant = Inside<'a>;

    #[inline]
    fn serialize_bool(self, _: bool) -> Result<(), Stop> {
        self.head(0);
        Ok(())
    }

    #[inline]
    fn serialize_i8(self, number: i8) -> Result<(), Stop> {
        self.serialize_i64(number.into())
    }

    #[inline]
    fn serialize_i16(self, number: i16) -> Result<(), Stop> {
        self.serialize_i64(number.into())
    }

    #[inline]
    fn serialize_i32(self, number: i32) -> Result<(), Stop> {
        self.serialize_i64(number.into())
    }

    #[inline]
    fn serialize_i64(self, number: i64) -> Result<(), Stop> {
        // CBOR encodes a negative number `n` as `-1 - n`.
        self.head(if number < 0 { !number as u64 } else { number as u64 });
        Ok(())
    }

    #[inline]
    fn serialize_u8(self, number: u8) -> Result<(), Stop> {
        self.serialize_u64(number.into())
    }

    #[inline]
    fn serialize_u16(self, number: u16) -> Result<(), Stop> {
        self.serialize_u64(number.into())
    }

    #[inline]
    fn serialize_u32(self, number: u32) -> Result<(), Stop> {
        self.serialize_u64(number.into())
    }

    #[inline]
    fn serialize_u64(self, number: u64) -> Result<(), Stop> {
        self.head(number);
        Ok(())
    }

    fn serialize_i128(self, _: i128) -> Result<(), Stop> {
        self.ask()
    }

    fn serialize_u128(self, _: u128) -> Result<(), Stop> {
        self.ask()
    }

    fn serialize_f32(self, _: f32) -> Result<(), Stop> {
        self.ask()
    }

    fn serialize_f64(self, _: f64) -> Result<(), Stop> {
        self.ask()
    }

    fn serialize_char(self, letter: char) -> Result<(), Stop> {
        self.bytes(letter.len_utf8());
        Ok(())
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), Stop> {
        self.bytes(text.len());
        Ok(())
    }

    #[inline]
    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Stop> {
        self.bytes(bytes.len());
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Stop> {
        self.head(0);
        Ok(())
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Stop> {
        self.serialize_none()
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Stop> {
        self.serialize_none()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Stop> {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Stop> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        if name == "@@TAG@@" {
            return self.ask();
        }
        self.enter()?;
        self.head(1);
        self.bytes(variant.len());
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Inside<'a>, Stop> {
        self.open(length)
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Inside<'a>, Stop> {
        self.open(Some(length))
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Inside<'a>, Stop> {
        self.open(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Inside<'a>, Stop> {
        self.open_variant(name, variant, length)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Inside<'a>, Stop> {
        // Only the encoder detects a map that lists a key twice.
        if self.is_key {
            self.ask()?;
        }
        self.open(length)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Inside<'a>, Stop> {
        self.open(Some(length))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Inside<'a>, Stop> {
        self.open_variant(name, variant, length)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// Implements containers whose items have no names.
macro_rules! items {
    ($($container:ident $item:ident)*) => {
        $(impl ser::$container for Inside<'_> {
            type Ok = ();
            type Error = Stop;

            #[inline]
            fn $item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
                self.items += 1;
                value.serialize(&mut *self.measure)
            }

            #[inline]
            fn end(self) -> Result<(), Stop> {
                self.leave()
            }
        })*
    };
}

items! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

/// Implements containers whose fields have names.
macro_rules! fields {
    ($($container:ident)*) => {
        $(impl ser::$container for Inside<'_> {
            type Ok = ();
            type Error = Stop;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Stop> {
                self.items += 1;
                self.measure.bytes(name.len());
                value.serialize(&mut *self.measure)
            }

            #[inline]
            fn end(self) -> Result<(), Stop> {
                self.leave()
            }
        })*
    };
}

fields! { SerializeStruct SerializeStructVariant }

impl ser::SerializeMap for Inside<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        self.items += 1;
        key.serialize(&mut *self.measure)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        value.serialize(&mut *self.measure)
    }

    fn end(self) -> Result<(), Stop> {
        self.leave()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    enum Shape {
        Unit,
        New(Option<Box<Shape>>),
        Pair(u8, Vec<Shape>),
        Named { first: i64, second: BTreeMap<String, Shape> },
    }

    #[derive(Serialize)]
    struct Wrapped(u32);

    #[derive(Serialize)]
    struct Nothing;

    fn agrees<T: Serialize>(value: T) {
        let mut bytes = Vec::new();
        ciborium::into_writer(&value, &mut bytes).unwrap();
        assert_eq!(Measure::of(&value, 64).unwrap(), bytes.len());
    }

    #[test]
    fn every_shape_is_as_long_as_the_encoder_makes_it() {
        let edges = [0, 1, 23, 24, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX];
        for edge in edges {
            agrees(edge);
            agrees(edge as i64);
            agrees((edge as i64).wrapping_neg());
            agrees(!(edge as i64));
        }
        for len in [0, 1, 23, 24, 255, 256, 65_536] {
            agrees("x".repeat(len));
            agrees(bytes::Bytes::from(vec![1; len]));
            agrees(vec![7u8; len]);
        }
        agrees(('a', 'é', '€', '𝄞', true, (), Nothing, Wrapped(1_000), None::<u8>, Some(-1i8)));
        let nested = |levels| (0..levels).fold(Shape::Unit, |inner, _| Shape::New(Some(Box::new(inner))));
        agrees(nested(20));
        let named = Shape::Named { first: -300, second: [("k".to_owned(), nested(3))].into() };
        agrees(Shape::Pair(200, vec![named, Shape::New(None), Shape::Unit]));
        agrees((0..300u32).map(|n| (n, n.to_string())).collect::<BTreeMap<_, _>>());
    }

    #[test]
    fn an_open_end_takes_a_byte_more_and_floats_are_the_encoders() {
        struct Open;
        impl Serialize for Open {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use ser::SerializeSeq;
                let mut seq = serializer.serialize_seq(None)?;
                (0..40u8).try_for_each(|item| seq.serialize_element(&item))?;
                seq.end()
            }
        }
        agrees((Open, vec![Open]));
        assert!(matches!(Measure::of(&1.5f64, 64), Err(Stop::AskTheEncoder)));
        assert!(matches!(Measure::of(&u128::MAX, 64), Err(Stop::AskTheEncoder)));
        assert!(matches!(Measure::of(&vec![vec![0u8]], 1), Err(Stop::TooDeep)));
    }
}
