//! Tables and numbers in Markdown.

/// A table; the first column is text, the others are numbers.
pub fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let aligned: Vec<&str> = (0..columns.len())
        .map(|column| if column == 0 { "---" } else { "--:" })
        .collect();
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let owned: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
    let mut text = line(&owned) + &format!("|{}|\n", aligned.join("|"));
    for row in rows {
        text += &line(&row);
    }
    text
}

/// A number with three digits or more, and thousands apart.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let decimals = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, digits) = match whole.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", whole),
    };
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{rest}")
}
