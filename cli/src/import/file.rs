//! Reader of the file; each error names its row and field, or its line and column.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use lamplighter_types::{NewDevice, codec};
use serde_json::{Value, json};

use super::{Place, Problem, Row, problems, table};
use crate::failure::Failure;

/// Half a million devices; a larger file is a mistake, and would fill the memory.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The mark that editors write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The form of a file.
#[derive(Clone, Copy)]
enum Form<'a> {
    List,
    Table {
        /// The line of each device.
        lines: &'a [u64],
    },
}

impl Form<'_> {
    /// The place of a device, by its index.
    fn place(self, at: usize) -> Place {
        match self {
            Self::List => Place::Row(at + 1),
            Self::Table { lines } => Place::Line(lines.get(at).copied().unwrap_or_default()),
        }
    }

    /// What a part of a device is called.
    fn part(self) -> &'static str {
        match self {
            Self::List => "field",
            Self::Table { .. } => "column",
        }
    }
}

/// The devices of a file, each sound in itself and none twice.
pub fn read(path: &Path) -> Result<Vec<Row>, Failure> {
    let shown = path.display();
    let operation = || format!("reading {shown}");
    let file = File::open(path).map_err(Failure::during(operation()))?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(Failure::during(operation()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::plain(format!(
            "{shown} has more than {FILE_BYTES_MAX} bytes; divide it"
        )));
    }
    parse(&bytes).map_err(|lines| {
        let mut lines = lines.into_iter();
        let first = lines.next().unwrap_or_default();
        Failure::plain(format!("{shown}: {first}")).with_lines(lines)
    })
}

/// Parses the bytes of a file; errors come as lines.
pub fn parse(bytes: &[u8]) -> Result<Vec<Row>, Vec<String>> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(vec!["the text is in UTF-16; save it as UTF-8".to_owned()]);
    }
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let (from_table, lines);
    let (bytes, form) = if table::is_table(bytes) {
        (from_table, lines) = table::to_json(bytes)?;
        (from_table.as_bytes(), Form::Table { lines: &lines })
    } else {
        (bytes, Form::List)
    };
    let devices: Vec<NewDevice> =
        serde_json::from_slice(bytes).map_err(|error| locate(bytes, form, &error))?;
    let row = |(at, device)| Row {
        place: form.place(at),
        device,
    };
    let rows: Vec<_> = devices.into_iter().enumerate().map(row).collect();
    if rows.is_empty() {
        return Err(vec!["the list has no device".to_owned()]);
    }
    let mut wrong = repeated(&rows);
    for row in &rows {
        let fault = row.device.check().err();
        wrong.extend(fault.map(|fault| row.problem(fault.to_string())));
    }
    if wrong.is_empty() {
        Ok(rows)
    } else {
        Err(problems(wrong, rows.len()))
    }
}

/// Devices and keys that are there more than once.
fn repeated(rows: &[Row]) -> Vec<Problem> {
    let mut names = BTreeMap::new();
    let mut keys = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in rows {
        if let Some(first) = names.insert(&row.device.device, row.place) {
            wrong.push(row.problem(format!("{first} has the same device")));
        } else if let Some(key) = row.device.key
            && let Some(first) = keys.insert(key, row.place)
        {
            wrong.push(row.problem(format!("{first} has the same key")));
        }
    }
    wrong
}

/// Finds the errors in a text that is no list of devices.
fn locate(bytes: &[u8], form: Form<'_>, error: &serde_json::Error) -> Vec<String> {
    let Ok(whole) = serde_json::from_slice::<Value>(bytes) else {
        let what = "this is no JSON, and no CSV with a column `device`";
        return vec![format!("{what}: {error}")];
    };
    let Some(items) = whole.as_array() else {
        let what = "this is no list of devices, which begins with [ and ends with ]";
        return vec![what.to_owned()];
    };
    let wrong: Vec<_> = items
        .iter()
        .enumerate()
        .flat_map(|(at, item)| {
            let place = form.place(at);
            let device = item["device"].as_str().unwrap_or("without a name");
            wrong_with(item, form.part())
                .into_iter()
                .map(move |what| Problem {
                    place,
                    text: format!("{place} ({}): {what}", device.escape_debug()),
                })
        })
        .collect();
    if wrong.is_empty() {
        // Only the strict reader notices a field that is there twice.
        vec![format!("this is no list of devices: {error}")]
    } else {
        problems(wrong, items.len())
    }
}

/// The errors in one item, whose parts are called so.
fn wrong_with(item: &Value, part: &str) -> Vec<String> {
    let read = |item: &Value| codec::decode_json::<NewDevice>(item.to_string().as_bytes());
    let reason = |error: codec::CodecError| match error {
        codec::CodecError::Json { source, .. } => source.message(),
        error => error.to_string(),
    };
    let Err(error) = read(item) else {
        return Vec::new();
    };
    let Some(fields) = item.as_object() else {
        return vec!["this is no device, which begins with { and ends with }".to_owned()];
    };
    let sound = json!({ "device": "d", "owner": "o", "model": "m", "hardware_class": "h",
        "district": "", "gateway": null, "key": null, "proof": null, "tags": [] });
    let mut wrong = Vec::new();
    for (name, value) in fields {
        let mut probe = sound.clone();
        if probe.get(name).is_some() {
            probe[name] = value.clone();
            if let Err(error) = read(&probe) {
                wrong.push(format!("the {part} `{name}`: {}", reason(error)));
            }
        }
    }
    if wrong.is_empty() {
        vec![reason(error)]
    } else {
        wrong
    }
}
