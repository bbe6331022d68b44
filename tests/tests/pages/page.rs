//! The blocks of code of a page.

/// The kind of a block, which decides how it is run.
#[derive(Debug, PartialEq, Eq)]
pub enum Block {
    /// `sh`: commands that end, each with exit code 0.
    Commands(Vec<String>),
    /// `sh` after `<!-- test: until Ctrl-C -->`: commands that run beside those of the next blocks,
    /// to the end of the page.
    UntilInterrupted(Vec<String>),
    /// `console`: commands, after `$ `, and what each prints.
    Session(Vec<(String, String)>),
    /// `sh` after `<!-- test: each machine -->` or `<!-- test: one machine -->`: commands for the
    /// machines of a cluster.
    Machines { all: bool, commands: Vec<String> },
    /// `sh` after `<!-- test: skip -->`, which is for what installs; and everything else.
    NotRun,
}

/// The blocks of a page in their order.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    let mut marker = None;
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block(language, marker.take(), &inside));
        } else if let Some(rest) = line.strip_prefix("<!-- test: ") {
            marker = Some(rest.strip_suffix(" -->").expect("a marker ends its line"));
        } else {
            assert!(marker.is_none(), "a marker stands before its block: {line}");
        }
    }
    blocks
}

fn block(language: &str, marker: Option<&str>, lines: &[&str]) -> Block {
    match (language, marker) {
        ("sh", None) => Block::Commands(commands(lines)),
        ("sh", Some("until Ctrl-C")) => Block::UntilInterrupted(commands(lines)),
        ("sh", Some(which @ ("each machine" | "one machine"))) => Block::Machines {
            all: which == "each machine",
            commands: commands(lines),
        },
        ("sh", Some("skip")) => Block::NotRun,
        ("console", None) => Block::Session(session(lines)),
        ("text" | "toml" | "json", None) => Block::NotRun,
        other => panic!("a block is of a known language and marker, not {other:?}: {lines:#?}"),
    }
}

/// A command has more than one line if a line ends with `\` or `|`, or where a here-document is.
fn commands(lines: &[&str]) -> Vec<String> {
    let mut commands = Vec::new();
    let mut lines = lines.iter();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let mut command = (*line).to_owned();
        let end = line.split_once("<<").map(|(_, end)| end.trim_matches('\''));
        let more = |command: &str| match end {
            Some(end) => !command.ends_with(&format!("\n{end}")),
            None => command.ends_with(['\\', '|']),
        };
        while more(&command) {
            let line = lines.next().expect("a command ends in its block");
            command = format!("{command}\n{line}");
        }
        commands.push(command);
    }
    commands
}

fn session(lines: &[&str]) -> Vec<(String, String)> {
    let mut session: Vec<(String, String)> = Vec::new();
    for line in lines {
        match (line.strip_prefix("$ "), session.last_mut()) {
            (Some(command), _) => session.push((command.to_owned(), String::new())),
            (None, Some((_, printed))) => *printed += &format!("{line}\n"),
            (None, None) => panic!("a session begins with a command: {line}"),
        }
    }
    session
}

/// Whether the output of a command matches the page, where `..` stands for any text.
pub fn fits(shown: &str, printed: &str) -> bool {
    let mut parts = shown.trim().split("..");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.trim().strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    match last {
        None => rest.is_empty(),
        Some(end) => end.is_empty() || printed.trim().ends_with(end),
    }
}

#[test]
fn blocks_are_distinguished() {
    let page = "# Page\n```sh\none \\\n    two\n\ncat > f <<END\na\nEND\n\
                three   # more\nfour |\n    cat\n```\n\
                <!-- test: until Ctrl-C -->\n```sh\nwatch\n```\n```toml\na = 1\n```\n\
                <!-- test: each machine -->\n```sh\nstart\n```\n\
                ```console\n$ five\n..\n$ six\nlamplighter: no\nreally\n```\n";
    let session = [("five", "..\n"), ("six", "lamplighter: no\nreally\n")];
    let session = session.map(|(command, printed)| (command.to_owned(), printed.to_owned()));
    let commands = [
        "one \\\n    two",
        "cat > f <<END\na\nEND",
        "three   # more",
        "four |\n    cat",
    ];
    assert_eq!(
        blocks(page),
        [
            Block::Commands(commands.map(str::to_owned).to_vec()),
            Block::UntilInterrupted(vec!["watch".to_owned()]),
            Block::NotRun,
            Block::Machines {
                all: true,
                commands: vec!["start".to_owned()]
            },
            Block::Session(session.to_vec()),
        ]
    );
}

#[test]
fn what_is_shown_is_compared() {
    assert!(fits(
        "refused: .. (forbidden)\n",
        "refused: a is not b (forbidden)\n"
    ));
    assert!(fits("..\n", "anything\nat all\n"));
    assert!(fits("a ..\n", "a\nb\n".replacen('\n', " ", 1).as_str()));
    for (shown, printed) in [
        ("a\n", "a\nb\n"),
        ("a .. (c)\n", "a b (d)\n"),
        ("a ..\n", "b a \n"),
        ("a .. c\n", "a b c d\n"),
    ] {
        assert!(!fits(shown, printed), "{shown} {printed}");
    }
}
