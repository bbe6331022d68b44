use serde_json::Value;

/// How much of a block's outcome is in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Notifications and changed records.
    Loud,
    /// Notifications.
    Quiet,
    /// The number of notifications of each kind, and of changed records of each table.
    Counts,
}

/// One line of a script.
pub enum Line {
    Comment,
    Send {
        sender: String,
        key: Option<String>,
        devices: Vec<String>,
        action: Value,
    },
    Again,
    Key {
        account: String,
        key: String,
    },
    Sequence(u64),
    Expires(i64),
    Time(u64),
    Blocks(u64),
    Detail(Detail),
    /// The next transaction is sent so many times.
    Times(u64),
    Effective(String),
    Query {
        function: String,
        argument: String,
    },
}

/// The lines with their sources.
pub fn parse(text: &str) -> Vec<(String, Line)> {
    let mut sources: Vec<String> = Vec::new();
    for line in text.lines() {
        match sources.last_mut() {
            Some(last) if line.starts_with(' ') => {
                last.push('\n');
                last.push_str(line);
            }
            _ => sources.push(line.to_owned()),
        }
    }
    let parsed = sources.into_iter().map(|source| {
        let line = parse_line(&source);
        (source, line)
    });
    parsed.collect()
}

fn parse_line(source: &str) -> Line {
    if source.is_empty() || source.starts_with('#') {
        return Line::Comment;
    }
    if let Some(directive) = source.strip_prefix('@') {
        return parse_directive(directive);
    }
    let (head, action) = source
        .split_once(": ")
        .unwrap_or_else(|| panic!("neither action nor directive: {source}"));
    let (head, devices) = match head.split_once(" [") {
        Some((head, devices)) => (head, devices.trim_end_matches(']')),
        None => (head, ""),
    };
    let (sender, key) = match head.split_once(" as ") {
        Some((sender, key)) => (sender, Some(key.to_owned())),
        None => (head, None),
    };
    let action = serde_json::from_str(action).unwrap_or_else(|e| panic!("{e} in {source}"));
    let devices = devices.split_whitespace().map(str::to_owned).collect();
    Line::Send {
        sender: sender.to_owned(),
        key,
        devices,
        action,
    }
}

fn parse_directive(directive: &str) -> Line {
    let words: Vec<&str> = directive.split_whitespace().collect();
    let number = |text: &str| text.parse().unwrap_or_else(|e| panic!("{e}: @{directive}"));
    match words[..] {
        ["again"] => Line::Again,
        ["quiet"] => Line::Detail(Detail::Quiet),
        ["loud"] => Line::Detail(Detail::Loud),
        ["counts"] => Line::Detail(Detail::Counts),
        ["times", n] => Line::Times(number(n)),
        ["key", account, key] => Line::Key {
            account: account.to_owned(),
            key: key.to_owned(),
        },
        ["sequence", n] => Line::Sequence(number(n)),
        ["expires", ms] => Line::Expires(ms.parse().expect("a number of ms")),
        ["time", ms] => Line::Time(number(ms)),
        ["blocks", n] => Line::Blocks(number(n)),
        ["effective", device] => Line::Effective(device.to_owned()),
        ["query", function, argument] => Line::Query {
            function: function.to_owned(),
            argument: argument.to_owned(),
        },
        _ => panic!("no such directive: @{directive}"),
    }
}
