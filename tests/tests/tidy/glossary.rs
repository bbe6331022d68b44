//! The glossary of CONTRIBUTING.md: words that names of our code must not contain.

use std::collections::BTreeMap;

/// The heading above the tables of words.
const HEADING: &str = "## Words";

/// The line that lists type names of which there is one each.
const ONE_TYPE_EACH: &str = "One type each:";

/// The refused words of the glossary.
#[derive(Default)]
pub struct Glossary {
    /// A refused word or sequence of words (`let_go`), with the word to use.
    parts: BTreeMap<Vec<String>, String>,
    /// A name that no function may have (`take()` in the table), with the word to use.
    functions: BTreeMap<String, String>,
    /// Type names that are too general for more than one type.
    pub one_type_each: Vec<String>,
}

impl Glossary {
    /// Reads the tables below the heading. A row has three columns: the word, its meaning, and the
    /// words not used for it. Those in code font are refused in names, the others are advice.
    pub fn parse(text: &str) -> Self {
        let mut glossary = Glossary::default();
        let below = text.lines().skip_while(|line| *line != HEADING).skip(1);
        for line in below.take_while(|line| !line.starts_with("## ")) {
            if line.starts_with(ONE_TYPE_EACH) {
                glossary.one_type_each = in_code_font(line).map(str::to_owned).collect();
            }
            let cells: Vec<&str> = line.trim().trim_matches('|').split('|').collect();
            if let ([word, _, not], true) = (cells.as_slice(), line.starts_with('|')) {
                glossary.add_row(&word.replace(['*', '`'], ""), not);
            }
        }
        glossary
    }

    fn add_row(&mut self, word: &str, not: &str) {
        for refused in in_code_font(not) {
            let word = word.trim().to_owned();
            match refused.strip_suffix("()") {
                Some(function) => self.functions.insert(function.into(), word),
                None => self.parts.insert(parts(refused), word),
            };
        }
    }

    /// How many words are refused.
    pub fn count(&self) -> usize {
        self.parts.len() + self.functions.len()
    }

    /// The first refused word in a name, with the word to use.
    pub fn refused(&self, name: &str) -> Option<(String, &str)> {
        let parts = parts(name);
        self.parts.iter().find_map(|(refused, word)| {
            let same = |window: &[String]| {
                let pairs = window.iter().zip(refused);
                pairs
                    .clone()
                    .all(|(part, refused)| is_form_of(part, refused))
            };
            let found = parts.windows(refused.len()).any(same);
            found.then(|| (refused.join("_"), word.as_str()))
        })
    }

    /// The word to use, if no function may have this name.
    pub fn refused_function(&self, name: &str) -> Option<&str> {
        self.functions.get(name).map(String::as_str)
    }
}

/// Whether a part of a name is the word, or the word with an `s` at its end.
fn is_form_of(part: &str, word: &str) -> bool {
    part == word || part.strip_suffix('s') == Some(word)
}

fn in_code_font(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The words of `snake_case`, `kebab-case` and `CamelCase` names, in lower case.
pub fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut previous_lower = false;
    for character in name.chars() {
        let separates = character == '_' || character == '-';
        if separates || (character.is_uppercase() && previous_lower) {
            parts.push(String::new());
        }
        if !separates {
            let part = parts.last_mut().expect("there is always one");
            part.extend(character.to_lowercase());
        }
        previous_lower = character.is_lowercase() || character.is_numeric();
    }
    parts.retain(|part| !part.is_empty());
    parts
}
