use std::process::ExitCode;

use lamplighter_types::{Action, Device, DeviceStatus, DevicesAction, Tag};

use super::city::{City, id};
use crate::import::file;
use crate::output::csv_lines;
use crate::reports::{export_table, portable};

fn device(name: &str, owner: &str) -> String {
    format!(
        r#"{{"device": "{name}", "owner": "{owner}", "model": "lamp",
        "hardware_class": "lamp-v1", "district": "north", "tags": []}}"#
    )
}

fn list(devices: &[String]) -> String {
    format!("[{}]", devices.join(",\n"))
}

fn wrong(text: &str) -> String {
    file::parse(text.as_bytes()).unwrap_err().join("\n")
}

#[test]
fn a_wrong_row_is_reported_with_row_and_field() {
    let good = device("lamp-1", "city");
    let without_owner = device("lamp-2", "city").replace(r#""owner": "city","#, "");
    let output = wrong(&list(&[good.clone(), without_owner]));
    assert!(output.contains("1 of 2 rows"), "{output}");
    assert!(
        output.contains("row 2 (lamp-2): missing field `owner`"),
        "{output}"
    );
    let upper = device("lamp-2", "City Hall");
    let output = wrong(&list(&[good.clone(), upper]));
    assert!(
        output.contains("row 2 (lamp-2): the field `owner`: "),
        "{output}"
    );
    let unknown = good.replace("model", "modell");
    let output = wrong(&list(&[unknown]));
    assert!(
        output.contains("row 1 (lamp-1): unknown field `modell`"),
        "{output}"
    );
    let empty = good.replace(r#""model": "lamp""#, r#""model": """#);
    let output = wrong(&list(&[good.clone(), empty]));
    assert!(
        output.contains("row 2 (lamp-1): model is empty"),
        "{output}"
    );
    assert!(
        output.contains("row 2 (lamp-1): row 1 has the same device"),
        "{output}"
    );
    let tag = r#"{"name": "pole", "value": "1"}"#;
    let twice = good.replace("[]", &format!("[{tag}, {tag}]"));
    assert!(wrong(&list(&[twice])).contains("row 1 (lamp-1): tags has pole more than once"));
    for (value, what) in [
        (
            r"a\u0007",
            "tag has a character that is not seen or controls a terminal",
        ),
        (
            &"a".repeat(257),
            "tag has 257 bytes or items, more than the 256 allowed",
        ),
    ] {
        let tag = format!(r#"[{{"name": "pole", "value": "{value}"}}]"#);
        let output = wrong(&list(&[good.replace("[]", &tag)]));
        assert!(
            output.contains(&format!("row 1 (lamp-1): {what}")),
            "{output}"
        );
    }
    let weak = format!(r#"[], "key": "{}"}}"#, "0".repeat(64));
    let output = wrong(&list(&[good.replace("[]}", &weak)]));
    assert!(
        output.contains("row 1 (lamp-1): ") && output.contains("key"),
        "{output}"
    );
    for output in [
        wrong(&list(&[good.replace("}", r#", "owner": "other"}"#)])),
        wrong(&good),
        wrong("[]"),
        wrong("device,owner\nlamp-1,city"),
        wrong("name,owner\nlamp-1,city"),
        wrong("[3]"),
    ] {
        assert!(
            !output.contains("NewDevice"),
            "no name of the program's: {output}"
        );
    }
    assert!(wrong("name,owner\n").contains("no JSON"));
}

/// The devices of a table, as the ledger gets them.
fn table(text: &str) -> Vec<lamplighter_types::NewDevice> {
    let rows = file::parse(text.as_bytes()).unwrap_or_else(|lines| panic!("{lines:?}"));
    rows.into_iter().map(|row| row.device).collect()
}

#[test]
fn a_table_is_understood_with_any_delimiter_and_line_end() {
    let heads = "device,owner,model,hardware_class,district,gateway,tags,tag.note\n";
    let rows = "lamp-1,city,\"Lamp, X\",lamp-v1,north,gw-1,pole=17 ring=2,\"say \"\"hi\"\"\"\n\
                lamp-2 , city,lamp,lamp-v1,,,,\n";
    let expected = table(&format!("{heads}{rows}"));
    assert_eq!(expected.len(), 2);
    assert_eq!(expected[0].model, "Lamp, X");
    let tags: Vec<_> = expected[0]
        .tags
        .iter()
        .map(|tag| (tag.name.as_str(), tag.value.as_str()))
        .collect();
    assert_eq!(
        tags,
        [("pole", "17"), ("ring", "2"), ("note", "say \"hi\"")]
    );
    assert_eq!(
        (&expected[1].device, &expected[1].gateway),
        (&id("lamp-2"), &None)
    );
    let plain = format!("{heads}{rows}");
    // What spreadsheets make of it.
    let semicolons = plain.replace("\"Lamp, X\"", "Lamp@ X").replace(',', ";");
    let semicolons = semicolons.replace("Lamp@ X", "Lamp, X");
    for text in [
        plain.replace('\n', "\r\n"),
        format!("\u{feff}{plain}"),
        semicolons.clone(),
        semicolons.replace('\n', "\r\n"),
        semicolons.replace(';', "\t"),
        plain.replacen("device,", "\"device\",", 1),
        plain.trim_end().to_owned(),
    ] {
        assert_eq!(table(&text), expected, "{text}");
    }
}

#[test]
fn what_is_exported_is_registered_again() {
    let tag = |(name, value): &(&str, &str)| Tag {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    let device = |name: &str, tags: &[(&str, &str)]| Device {
        device: id(name),
        owner: id("city"),
        offered_to: None,
        model: "Lamp, \"X\"; new".to_owned(),
        hardware_class: "lamp-v1".to_owned(),
        district: "north/quay".parse().unwrap(),
        gateway: (name == "lamp-1").then(|| id("gw-1")),
        key: None,
        tags: tags.iter().map(tag).collect(),
        status: DeviceStatus::Active,
        registered_height: 7,
    };
    let devices = [
        device("lamp-1", &[("pole", "a b=c"), ("sum", "=1+1")]),
        device("lamp-2", &[("note", "-5 °C, 'cold'")]),
        device("lamp-3", &[]),
    ];
    let (heads, rows) = export_table(&devices);
    let heads: Vec<_> = heads.iter().map(String::as_str).collect();
    let csv = csv_lines(&heads, rows).join("\n");
    assert!(csv.contains("'=1+1"), "no formula: {csv}");
    let json: Vec<_> = devices.iter().map(portable).collect();
    for text in [csv, serde_json::json!(json).to_string()] {
        let read = table(&text);
        assert_eq!(read.len(), devices.len(), "{text}");
        for (read, device) in read.iter().zip(&devices) {
            assert_eq!(read.device, device.device);
            assert_eq!(read.model, device.model);
            assert_eq!(read.gateway, device.gateway);
            assert_eq!(read.tags, device.tags, "{text}");
        }
    }
}

#[test]
fn a_wrong_cell_is_reported_with_line_and_column() {
    let heads = "device;owner;model;hardware_class;district;tags\n";
    let good = "lamp-1;city;lamp;lamp-v1;north;\n";
    // A cell may have several lines.
    let long = "lamp-0;city;lamp;lamp-v1;north;\"pole=17\nring=2\"\n";
    for (rows, expected) in [
        (
            format!("{good}lamp-2;City Hall;lamp;lamp-v1;north;\n"),
            "line 3 (lamp-2): the column `owner`: ",
        ),
        (
            format!("{long}lamp-2;City Hall;lamp;lamp-v1;north;\n"),
            "line 4 (lamp-2): the column `owner`: ",
        ),
        (
            format!("{good}lamp-2;city;;lamp-v1;north;\n"),
            "line 3: the column `model` is empty",
        ),
        (
            format!("{good};city;lamp;lamp-v1;north;\n"),
            "line 3: the column `device` is empty",
        ),
        (
            format!("{good}lamp-2;city;lamp\n"),
            "line 3 has 3 cells, and the first line has 6",
        ),
        (
            format!("{good}lamp-2;city;lamp;lamp-v1;north;pole\n"),
            "line 3: the column `tags`: pole is no tag",
        ),
        (
            format!("{good}lamp-2;city;lamp;lamp-v1;North Side;\n"),
            "line 3 (lamp-2): the column `district`: ",
        ),
        (
            format!("{good}{good}"),
            "line 3 (lamp-1): line 2 has the same device",
        ),
        (String::new(), "the list has no device"),
    ] {
        let lines = wrong(&format!("{heads}{rows}"));
        assert!(lines.contains(expected), "{rows}: {lines}");
    }
    let lines = wrong("device;owner;colour;owner\n");
    for expected in [
        "column 3: there is no field `colour`",
        "column 4: `owner` is there more than once",
        "there is no column `model`",
        "there is no column `district`",
    ] {
        assert!(lines.contains(expected), "{lines}");
    }
    let latin = [heads.as_bytes(), b"lamp-1;city;L\xe4mp;lamp-v1;north;\n"].concat();
    let lines = file::parse(&latin).unwrap_err();
    assert!(lines[0].contains("line 2 is not in UTF-8"), "{lines:?}");
}

#[test]
fn the_example_of_the_page_is_taken() {
    let page = include_str!("../../../docs/operations.md");
    let example = page.split("```json\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let rows = file::parse(example.as_bytes()).unwrap();
    assert_eq!(rows[0].device.device, id("lamp-1"));
}

#[test]
fn many_wrong_rows_are_counted() {
    let bad = |n: usize| device(&format!("lamp-{n}"), "No");
    let output = wrong(&list(&(0..1_000).map(bad).collect::<Vec<_>>()));
    assert!(output.contains("1000 of 1000 rows"), "{output}");
    assert!(
        output.ends_with("and 980 more") && output.lines().count() == 22,
        "{output}"
    );
}

#[test]
fn each_wrong_row_has_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("devices.json");
    let bad = device("lamp\\nforged", "city");
    std::fs::write(&path, list(&[device("lamp-1", "No"), bad])).unwrap();
    let lines = file::read(&path).unwrap_err().lines();
    // They are escaped one by one: what is a line for us is one on the terminal.
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].starts_with("  row 1 (lamp-1): "), "{lines:?}");
    assert!(lines[2].starts_with("  row 2 (lamp"), "{lines:?}");
    assert!(!lines.concat().contains('\n'), "{lines:?}");
}

#[test]
fn a_byte_order_mark_is_understood() {
    let text = list(&[device("lamp-1", "city")]);
    let marked = [b"\xef\xbb\xbf", text.as_bytes()].concat();
    assert_eq!(file::parse(&marked).unwrap().len(), 1);
    let utf16: Vec<u8> = std::iter::once(0xfeff)
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(file::parse(&utf16).unwrap_err()[0].contains("UTF-16"));
}

/// Devices that new transactions registered.
fn registered(city: &mut City) -> Vec<usize> {
    let all = city.new_transactions();
    let counts = all.iter().map(|transaction| match &transaction.action {
        Action::Devices(DevicesAction::Register { devices }) => devices.len(),
        other => panic!("{other:?}"),
    });
    counts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_resumes_with_the_same_command() {
    let mut city = City::found().await;
    let command = "device register {devices.json}";
    let name = |n: usize| format!("lamp-{n}");
    let mut rows: Vec<_> = (1..=1_200).map(|n| device(&name(n), "city")).collect();
    rows[699] = device("lamp-700", "nowhere");
    city.write("devices.json", list(&rows));
    city.new_transactions();

    // One wrong row is named and nothing is registered, also by a dry run.
    for command in [command, "device register {devices.json} --dry-run"] {
        let failure = city.run("operator", command).await.unwrap_err();
        assert_eq!(failure.exit_code(), ExitCode::from(3));
        let output = failure.to_string();
        let row = "row 700 (lamp-700): there is no organization nowhere";
        assert!(
            output.contains("nothing was registered: 1 of 1200 rows"),
            "{output}"
        );
        assert!(output.contains(row), "{output}");
    }
    assert!(registered(&mut city).is_empty());

    // Some are there already, as after an import that broke off.
    city.write("some.json", list(&rows[..500]));
    city.done("operator", "device register {some.json}").await;
    assert_eq!(registered(&mut city), [500]);
    rows[699] = device("lamp-700", "city");
    city.write("devices.json", list(&rows));
    city.done("operator", "device register {devices.json} --dry-run")
        .await;
    assert!(registered(&mut city).is_empty());
    city.done("operator", command).await;
    assert_eq!(registered(&mut city), [500, 200]);
    city.done("operator", command).await;
    assert!(registered(&mut city).is_empty(), "all are there");

    // One that differs is an error, unless it is to be left alone.
    rows[2] = device("lamp-3", "city").replace("lamp-v1", "lamp-v2");
    rows.push(device("lamp-1201", "city"));
    city.write("devices.json", list(&rows));
    let output = city.run("operator", command).await.unwrap_err().to_string();
    let row = "row 3 (lamp-3): it is registered with another content: hardware_class lamp-v1 (here \
               lamp-v2)";
    assert!(output.contains(row), "{output}");
    assert!(registered(&mut city).is_empty());
    city.done("operator", &format!("{command} --skip-existing"))
        .await;
    assert_eq!(registered(&mut city), [1]);
    city.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ledger_would_refuse_is_found_before() {
    let mut city = City::found().await;
    let key = city.key("lamp");
    let proof = city.device_proof("lamp", "lamp-1");
    let with =
        |name: &str, more: &str| device(name, "city").replace("[]}", &format!("[], {more}}}"));
    let key = format!(r#""key": "{key}", "proof": "{proof}""#);
    city.write("one.json", list(&[with("lamp-1", &key)]));
    city.new_transactions();
    let output = city
        .run("auditor", "device register {one.json}")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        output.contains("row 1 (lamp-1): auditor is not Operator of north"),
        "{output}"
    );
    city.done("operator", "device register {one.json}").await;
    assert_eq!(registered(&mut city), [1]);

    let gateway = r#""gateway": "admin-1""#;
    city.write("two.json", list(&[with("lamp-2", gateway)]));
    let output = city
        .run("operator", "device register {two.json}")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        output.contains("row 1 (lamp-2): admin-1 is no gateway"),
        "{output}"
    );
    assert!(registered(&mut city).is_empty());

    // The key of a device that is not of the file, however few rows there are.
    let rows = [device("lamp-3", "city"), with("lamp-4", &key)];
    city.write("three.json", list(&rows));
    let output = city
        .run("operator", "device register {three.json}")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        output.contains("row 2 (lamp-4): the device lamp-1 has the same key"),
        "{output}"
    );
    assert!(registered(&mut city).is_empty());
    let there = city.client("auditor").device(&id("lamp-3")).await;
    assert!(there.unwrap_err().is_not_found());
    city.stop().await;
}
