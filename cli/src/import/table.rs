//! Lists of devices as CSV: commas, semicolons or tabs, with a line of heads. Each record becomes
//! the JSON that a list of devices has, so that both are checked by the same rules.

use csv::{ErrorKind, Position, ReaderBuilder, StringRecord, Trim};
use serde_json::{Map, Value, json};

/// Columns that a device has once.
const COLUMNS: [&str; 8] = [
    "device",
    "owner",
    "model",
    "hardware_class",
    "district",
    "gateway",
    "key",
    "proof",
];
/// Columns that a table must have. An empty district is the whole city, the others are never empty.
const REQUIRED: [&str; 5] = ["device", "owner", "model", "hardware_class", "district"];
/// The column of tags, as `pole=17 ring=2`.
const TAGS: &str = "tags";
/// Begin of the name of a column with one tag, e.g. `tag.pole`.
const TAG: &str = "tag.";

/// Tells whether a text is such a list, and not JSON.
pub fn is_table(text: &[u8]) -> bool {
    let heads = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let delimiter = delimiter(heads);
    let mut cells = heads.split(|byte| *byte == delimiter);
    cells.any(|cell| cell.trim_ascii().trim_ascii_end() == b"device" || cell == b"\"device\"")
}

/// The sign that is most frequent in the heads.
fn delimiter(heads: &[u8]) -> u8 {
    let count = |sign: &u8| heads.iter().filter(|byte| *byte == sign).count();
    // Of equal counts the last one counts: without any delimiter there is one column.
    *[b'\t', b';', b',']
        .iter()
        .max_by_key(|sign| count(sign))
        .unwrap_or(&b',')
}

/// The records as a JSON list of devices, and the line on which each begins.
///
/// # Errors
/// A line for each column or record that is wrong in its form.
pub fn to_json(text: &[u8]) -> Result<(String, Vec<u64>), Vec<String>> {
    let heads = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter(heads))
        .trim(Trim::All)
        .from_reader(text);
    let columns = reader.headers().map_err(|error| vec![fault(&error)])?;
    let columns = columns.clone();
    let wrong = wrong_columns(&columns);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let (mut items, mut lines, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, Position::line);
                match device(&columns, &record) {
                    Ok(item) => items.push(item),
                    Err(what) => wrong.push(format!("line {line}: {what}")),
                }
                lines.push(line);
            }
            Err(error) => wrong.push(fault(&error)),
        }
    }
    if wrong.is_empty() {
        Ok((Value::Array(items).to_string(), lines))
    } else {
        Err(wrong)
    }
}

/// What is wrong with a record, and on which line.
fn fault(error: &csv::Error) -> String {
    let line = error.position().map_or(0, Position::line);
    match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("line {line} has {len} cells, and the first line has {expected_len}"),
        ErrorKind::Utf8 { .. } => format!("line {line} is not in UTF-8; save the file as UTF-8"),
        _ => format!("line {line}: {error}"),
    }
}

fn wrong_columns(columns: &StringRecord) -> Vec<String> {
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    for (at, name) in columns.iter().enumerate() {
        let number = at + 1;
        let shown = name.escape_debug();
        let is_tag = name == TAGS || name.strip_prefix(TAG).is_some_and(|tag| !tag.is_empty());
        if !is_tag && !COLUMNS.contains(&name) {
            let known = COLUMNS.join(", ");
            wrong.push(format!(
                "column {number}: there is no field `{shown}`; the fields are {known}, tags and \
                 tag.NAME"
            ));
        } else if seen.contains(&name) {
            wrong.push(format!(
                "column {number}: `{shown}` is there more than once"
            ));
        }
        seen.push(name);
    }
    let missing = REQUIRED.iter().filter(|name| !seen.contains(*name));
    wrong.extend(missing.map(|name| format!("there is no column `{name}`")));
    wrong
}

fn device(columns: &StringRecord, record: &StringRecord) -> Result<Value, String> {
    let (mut fields, mut tags) = (Map::new(), Vec::new());
    for (name, cell) in columns.iter().zip(record) {
        let cell = without_apostrophe(cell);
        if name == TAGS {
            for tag in cell.split_ascii_whitespace() {
                let (name, value) = tag.split_once('=').ok_or_else(|| {
                    let shown = tag.escape_debug();
                    format!("the column `tags`: {shown} is no tag, as pole=17")
                })?;
                tags.push(json!({ "name": name, "value": value }));
            }
        } else if let Some(tag) = name.strip_prefix(TAG) {
            if !cell.is_empty() {
                tags.push(json!({ "name": tag, "value": cell }));
            }
        } else if !cell.is_empty() || name == "district" {
            fields.insert(name.to_owned(), json!(cell));
        } else if REQUIRED.contains(&name) {
            return Err(format!("the column `{name}` is empty"));
        }
    }
    fields.insert(TAGS.to_owned(), Value::Array(tags));
    Ok(Value::Object(fields))
}

/// A cell without the apostrophe that stands before what a spreadsheet takes for a formula.
fn without_apostrophe(cell: &str) -> &str {
    let formula = cell.strip_prefix('\'');
    let formula = formula.filter(|rest| rest.starts_with(['=', '+', '-', '@']));
    formula.unwrap_or(cell)
}
