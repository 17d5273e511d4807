//! The name that a compiler leaves in an object, put in place of another one: gcc writes its
//! vendor's revision into `.comment`, and nowhere else, so that two builds of one release
//! make objects that differ in that alone. Pure.
//!
//! A section that grows moves all that lies behind it. The new places are those of the
//! assembler's own rule (each section where the one before it ends, aligned, in the order of
//! the file), and only an object that is exactly what this rule makes of its own sections
//! is touched.

/// What an object says of who made it: the last string of its `.comment`, without the NUL.
/// `None`: nothing, or it is no object of ours to read.
pub fn last(object: &[u8]) -> Option<&[u8]> {
    let elf = Elf::read(object)?;
    let comment = &elf.sections[elf.comment?];
    let content = comment.content(object)?;
    let strings = content.strip_suffix(&[0])?;
    strings.rsplit(|&byte| byte == 0).next()
}

/// `object` with `to` in place of its [`last`] string. `None`: it can't be done without a
/// doubt.
pub fn replace_last(object: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    if to.contains(&0) {
        return None;
    }
    let elf = Elf::read(object)?;
    let at = elf.comment?;
    let content = elf.sections[at].content(object)?;
    // Its own layout must be the rule's.
    if elf.lay_out(object, at, content)? != object {
        return None;
    }
    let from = last(object)?;
    let kept = content.len() - 1 - from.len();
    let replaced = [&content[..kept], to, &[0]].concat();
    elf.lay_out(object, at, &replaced)
}

const NULL: u64 = 0;
const NOBITS: u64 = 8;

/// A relocatable ELF file, as far as its layout goes. Numbers are little-endian.
struct Elf {
    is_64: bool,
    /// Bytes of the header, which is followed by the sections.
    header: usize,
    /// Where the table of sections begins.
    table: usize,
    sections: Vec<Section>,
    /// Which of them is `.comment`.
    comment: Option<usize>,
}

struct Section {
    kind: u64,
    offset: usize,
    size: usize,
    align: usize,
}

impl Section {
    fn content<'a>(&self, object: &'a [u8]) -> Option<&'a [u8]> {
        object.get(self.offset..self.offset.checked_add(self.size)?)
    }

    fn bytes(&self) -> usize {
        match self.kind {
            NOBITS => 0,
            _ => self.size,
        }
    }
}

impl Elf {
    fn read(object: &[u8]) -> Option<Self> {
        let is_64 = match object.get(..7)? {
            // ELF, its class, little-endian, version 1.
            [0x7f, b'E', b'L', b'F', class @ (1 | 2), 1, 1] => *class == 2,
            _ => return None,
        };
        let header = if is_64 { 64 } else { 52 };
        let relocatable = number(object, 16, 2)? == 1;
        let [table, tail] = if is_64 { [0x28, 0x34] } else { [0x20, 0x28] };
        let table = offset(number(object, table, if is_64 { 8 } else { 4 })?)?;
        let half = |at: usize| number(object, tail + 2 * at, 2);
        let [own, programs, entry, count, names] =
            [half(0)?, half(2)?, half(3)?, half(4)?, half(5)?];
        let is_usual = own == header as u64 && programs == 0;
        if !relocatable || !is_usual || entry != entry_bytes(is_64) as u64 || count == 0 {
            return None;
        }
        let mut sections = Vec::new();
        let mut name_offsets = Vec::new();
        for at in 0..offset(count)? {
            let entry = table.checked_add(at * entry_bytes(is_64))?;
            let field = |place: Field| number(object, entry + place.at(is_64), place.bytes(is_64));
            name_offsets.push(offset(field(Field::Name)?)?);
            sections.push(Section {
                kind: field(Field::Kind)?,
                offset: offset(field(Field::Offset)?)?,
                size: offset(field(Field::Size)?)?,
                align: offset(field(Field::Align)?)?.max(1),
            });
        }
        let names = sections.get(offset(names)?)?.content(object)?;
        let is_comment = |&at: &usize| {
            let name = names.get(name_offsets[at]..).unwrap_or_default();
            name.starts_with(b".comment\0")
        };
        let comment = (0..sections.len()).find(is_comment);
        Some(Elf {
            is_64,
            header,
            table,
            sections,
            comment,
        })
    }

    /// The file that the rule makes of these sections, that at `changed` having `content`.
    /// `None`: no file can be like that.
    fn lay_out(&self, object: &[u8], changed: usize, content: &[u8]) -> Option<Vec<u8>> {
        let mut order: Vec<usize> = (0..self.sections.len()).collect();
        order.retain(|&at| self.sections[at].kind != NULL);
        order.sort_by_key(|&at| (self.sections[at].offset, at));
        let mut file = object.get(..self.header)?.to_vec();
        let mut places = vec![None; self.sections.len()];
        for at in order {
            let section = &self.sections[at];
            pad(&mut file, section.align)?;
            places[at] = Some(file.len());
            if at == changed {
                file.extend_from_slice(content);
            } else if section.bytes() > 0 {
                file.extend_from_slice(section.content(object)?);
            }
        }
        pad(&mut file, if self.is_64 { 8 } else { 4 })?;
        let table = file.len();
        let bytes = entry_bytes(self.is_64) * self.sections.len();
        file.extend_from_slice(object.get(self.table..self.table.checked_add(bytes)?)?);
        for (at, place) in places.iter().enumerate() {
            let Some(place) = place else { continue };
            let entry = table + at * entry_bytes(self.is_64);
            self.put(&mut file, entry, Field::Offset, *place)?;
            if at == changed {
                self.put(&mut file, entry, Field::Size, content.len())?;
            }
        }
        let width = if self.is_64 { 8 } else { 4 };
        let start = if self.is_64 { 0x28 } else { 0x20 };
        put_number(&mut file, start, width, table)?;
        Some(file)
    }

    fn put(&self, file: &mut [u8], entry: usize, field: Field, value: usize) -> Option<()> {
        let at = entry + field.at(self.is_64);
        put_number(file, at, field.bytes(self.is_64), value)
    }
}

/// Fields of a section's entry in the table.
#[derive(Clone, Copy)]
enum Field {
    Name,
    Kind,
    Offset,
    Size,
    Align,
}

impl Field {
    fn at(self, is_64: bool) -> usize {
        match (self, is_64) {
            (Field::Name, _) => 0,
            (Field::Kind, _) => 4,
            (Field::Offset, true) => 24,
            (Field::Offset, false) => 16,
            (Field::Size, true) => 32,
            (Field::Size, false) => 20,
            (Field::Align, true) => 48,
            (Field::Align, false) => 32,
        }
    }

    fn bytes(self, is_64: bool) -> usize {
        match self {
            Field::Name | Field::Kind => 4,
            _ if is_64 => 8,
            _ => 4,
        }
    }
}

fn entry_bytes(is_64: bool) -> usize {
    if is_64 { 64 } else { 40 }
}

fn offset(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}

fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    let digit = |number, byte: &u8| number << 8 | u64::from(*byte);
    Some(bytes.iter().rev().fold(0, digit))
}

fn put_number(bytes: &mut [u8], at: usize, width: usize, value: usize) -> Option<()> {
    let value = (value as u64).to_le_bytes();
    if value[width..].iter().any(|&byte| byte != 0) {
        return None;
    }
    bytes
        .get_mut(at..at.checked_add(width)?)?
        .copy_from_slice(&value[..width]);
    Some(())
}

/// Zeros up to the next multiple of `align`. `None`: more than any section asks for.
fn pad(file: &mut Vec<u8>, align: usize) -> Option<()> {
    const ALIGN_MAX: usize = 1 << 20;
    if align > ALIGN_MAX {
        return None;
    }
    file.resize(file.len().next_multiple_of(align), 0);
    Some(())
}
