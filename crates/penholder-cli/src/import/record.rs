//! One record of a CSV file.

/// The fields of a record. It is reused for many records and keeps its memory.
#[derive(Debug, Default)]
pub(crate) struct Record {
    text: String,
    fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    /// Where its text ends; it begins where that of the field before ends.
    end: usize,
    is_quoted: bool,
}

impl Record {
    pub(crate) fn len(&self) -> usize {
        self.fields.len()
    }

    /// The text of a field; empty if there is no such field.
    pub(crate) fn field(&self, number: usize) -> &str {
        let Some(field) = self.fields.get(number) else {
            return "";
        };
        let start = match number {
            0 => 0,
            number => self.fields[number - 1].end,
        };
        &self.text[start..field.end]
    }

    /// Whether a field is written in quotes.
    pub(crate) fn is_quoted(&self, number: usize) -> bool {
        self.fields.get(number).is_some_and(|field| field.is_quoted)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|number| self.field(number))
    }

    /// The bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        self.text.len() + size_of_val(self.fields.as_slice())
    }
}

/// Collects the bytes of a record.
#[derive(Debug, Default)]
pub(crate) struct RecordBuilder {
    bytes: Vec<u8>,
    fields: Vec<Field>,
}

impl RecordBuilder {
    /// Begins with the memory of another record.
    pub(crate) fn reusing(record: &mut Record) -> Self {
        let mut bytes = std::mem::take(&mut record.text).into_bytes();
        let mut fields = std::mem::take(&mut record.fields);
        bytes.clear();
        fields.clear();
        Self { bytes, fields }
    }

    /// The number of the field that is being collected, from 1.
    pub(crate) fn field_number(&self) -> usize {
        self.fields.len() + 1
    }

    /// How many lines the field has had so far, beyond its first.
    pub(crate) fn line_ends(&self) -> usize {
        let start = self.fields.last().map_or(0, |field| field.end);
        let bytes = &self.bytes[start..];
        bytes.iter().filter(|byte| **byte == b'\n').count()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn end_field(&mut self, is_quoted: bool) {
        let end = self.bytes.len();
        self.fields.push(Field { end, is_quoted });
    }

    /// The finished record. The error is the number of the field that is not UTF-8, from 1.
    pub(crate) fn finish(self) -> Result<Record, usize> {
        let Self { bytes, fields } = self;
        let text = String::from_utf8(bytes).map_err(|error| {
            let place = error.utf8_error().valid_up_to();
            fields.iter().take_while(|field| field.end <= place).count() + 1
        })?;
        // Halves of a character in two fields are a character only together.
        match fields
            .iter()
            .position(|field| !text.is_char_boundary(field.end))
        {
            Some(number) => Err(number + 1),
            None => Ok(Record { text, fields }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[&[u8]]) -> Result<Record, usize> {
        let mut builder = RecordBuilder::reusing(&mut Record::default());
        for field in fields {
            builder.push(field);
            builder.end_field(field.is_empty());
        }
        builder.finish()
    }

    #[test]
    fn fields_are_apart() {
        let record = record(&[b"a", b"", "ä".as_bytes()]).unwrap();
        assert_eq!(record.iter().collect::<Vec<_>>(), ["a", "", "ä"]);
        assert!(record.is_quoted(1) && !record.is_quoted(2) && !record.is_quoted(3));
        assert_eq!(record.field(3), "");
    }

    #[test]
    fn a_field_that_is_not_utf_8_is_named() {
        assert_eq!(record(&[b"a", b"\xFF"]).unwrap_err(), 2);
        assert_eq!(record(&[b"\xFF", b"a"]).unwrap_err(), 1);
        assert_eq!(record(&[b"a", b"\xC3", b"\xA4"]).unwrap_err(), 2);
    }
}
