//! A scanner for Rust that knows just enough: where comments, strings and characters are, and where
//! a function begins and ends.

/// The text with the insides of comments, strings and characters replaced by spaces. Lines stay
/// lines, columns stay columns (counted in characters).
pub fn blank(text: &str) -> String {
    let input: Vec<char> = text.chars().collect();
    let mut output = String::with_capacity(text.len());
    let mut at = 0;
    while at < input.len() {
        let end = skip(&input, at);
        if end == at {
            output.push(input[at]);
            at += 1;
            continue;
        }
        output.extend(
            input[at..end]
                .iter()
                .map(|c| if *c == '\n' { '\n' } else { ' ' }),
        );
        at = end;
    }
    output
}

/// Where the comment, string or character that begins at `at` ends; `at` if none begins there.
fn skip(input: &[char], at: usize) -> usize {
    let next = |ahead: usize| input.get(at + ahead).copied().unwrap_or('\0');
    let in_word = at > 0 && (input[at - 1].is_alphanumeric() || input[at - 1] == '_');
    match next(0) {
        '/' if next(1) == '/' => line_end(input, at),
        '/' if next(1) == '*' => block_comment_end(input, at),
        '"' => string_end(input, at + 1),
        'r' | 'b' | 'c' if !in_word => prefixed_string_end(input, at),
        '\'' => character_end(input, at),
        _ => at,
    }
}

fn line_end(input: &[char], at: usize) -> usize {
    (at..input.len())
        .find(|index| input[*index] == '\n')
        .unwrap_or(input.len())
}

fn block_comment_end(input: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < input.len() {
        match (input[at], input.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    input.len()
}

/// `at` is behind the opening quote.
fn string_end(input: &[char], mut at: usize) -> usize {
    while at < input.len() {
        match input[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    input.len()
}

/// `b"…"`, `c"…"`, `r"…"`, `r#"…"#`, `br"…"`; the start itself when it is only a word.
fn prefixed_string_end(input: &[char], start: usize) -> usize {
    let mut at = start;
    let mut raw = false;
    while let Some('r' | 'b' | 'c') = input.get(at) {
        raw |= input[at] == 'r';
        at += 1;
    }
    let hashes = input[at..].iter().take_while(|c| **c == '#').count();
    if at - start > 2 || (hashes > 0 && !raw) || input.get(at + hashes) != Some(&'"') {
        return start;
    }
    let body = at + hashes + 1;
    if !raw {
        return string_end(input, body);
    }
    let closes = |index: &usize| {
        input[*index] == '"' && input[index + 1..].iter().take(hashes).all(|c| *c == '#')
    };
    (body..input.len())
        .find(closes)
        .map_or(input.len(), |index| index + 1 + hashes)
}

/// A character has its closing quote within a few places; a lifetime has none.
fn character_end(input: &[char], at: usize) -> usize {
    if input.get(at + 1) == Some(&'\\') {
        let close = (at + 3..input.len()).find(|index| input[*index] == '\'');
        return close.map_or(input.len(), |index| index + 1);
    }
    if input.get(at + 2) == Some(&'\'') {
        at + 3
    } else {
        at
    }
}

/// A function with a body.
#[derive(Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of `fn`, from 0.
    pub line: usize,
    /// From `fn` to the closing brace, both counted.
    pub lines: usize,
}

/// All functions of blanked code, also those inside of others.
pub fn functions(code: &str) -> Vec<Function> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (line, text) in lines.iter().enumerate() {
        let Some(name) = function_name(text) else {
            continue;
        };
        if let Some(last) = body_end(&lines, line) {
            found.push(Function {
                name,
                line,
                lines: last - line + 1,
            });
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "fn")?;
    let rest = words.get(at + 1)?;
    let name: String = rest
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    (!name.is_empty()).then_some(name)
}

/// The line of the brace that closes the first one at or after `line`; `None` for a declaration.
fn body_end(lines: &[&str], line: usize) -> Option<usize> {
    let mut braces = 0;
    let mut brackets = 0;
    let start = lines[line].find("fn ").unwrap_or(0);
    for (index, text) in lines.iter().enumerate().skip(line) {
        let text = if index == line { &text[start..] } else { text };
        for character in text.chars() {
            match character {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets -= 1,
                ';' if braces == 0 && brackets == 0 => return None,
                '{' => braces += 1,
                '}' if braces == 1 => return Some(index),
                '}' => braces -= 1,
                _ => {}
            }
        }
    }
    None
}
