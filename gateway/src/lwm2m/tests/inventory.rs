use super::super::inventory::{is_fact, values};
use super::super::registration::{Registry, endpoint_name};
use super::super::resource::{InstancePath, Real, ResourceValue, create};
use super::*;

fn at(object: u16) -> InstancePath {
    InstancePath {
        object,
        instance: 0,
    }
}

fn text(text: &str) -> ResourceValue {
    ResourceValue::Text(text.to_owned())
}

#[test]
fn an_inventory_is_read_from_tlv_and_senml() {
    // Resources 0 (text), 9 (integer) and 7 with two instances; 25 is unknown, and of object 6 the
    // latitude as 32 bits.
    let device = b"\xc4\x00Acme\xc1\x09\x50\x86\x07\x41\x00\x05\x41\x01\x0c";
    let response = Response::content(format::LWM2M_TLV, device.to_vec());
    let expected = vec![
        ("/3/0/0".to_owned(), text("Acme")),
        ("/3/0/9".to_owned(), ResourceValue::Integer(80)),
        ("/3/0/7/0".to_owned(), ResourceValue::Integer(5)),
        ("/3/0/7/1".to_owned(), ResourceValue::Integer(12)),
    ];
    assert_eq!(values(&response, Some(at(3))), Some(expected.clone()));
    // Some put the instance around it.
    let inside = [&[0x08, 0, device.len() as u8][..], device].concat();
    let response = Response::content(format::LWM2M_TLV, inside);
    assert_eq!(values(&response, Some(at(3))), Some(expected));
    let location = [&[0xC4, 0][..], &52.5f32.to_be_bytes()].concat();
    let response = Response::content(format::LWM2M_TLV, location);
    let latitude = ResourceValue::Float(Real::new(52.5).unwrap());
    assert_eq!(
        values(&response, Some(at(6))),
        Some(vec![("/6/0/0".to_owned(), latitude)])
    );
    let json = br#"[{"bn":"/3/0/","n":"0","vs":"A\u0007"},{"n":"9","v":80},{"n":"x","v":1}]"#;
    let response = Response::content(format::SENML_JSON, json.to_vec());
    let named = values(&response, None).unwrap();
    assert_eq!(named[0], ("/3/0/0".to_owned(), text("A\u{FFFD}")));
    assert_eq!(named.len(), 2, "what is no path is left out");
    let long = format!(r#"[{{"n":"/3/0/0","vs":"{}"}}]"#, "x".repeat(5_000));
    let response = Response::content(format::SENML_JSON, long.into_bytes());
    assert_eq!(
        values(&response, None).unwrap()[0].1,
        text(&"x".repeat(200))
    );
    assert_eq!(
        values(&Response::content(format::TEXT, b"1".to_vec()), None),
        None
    );
}

#[test]
fn what_a_device_is_is_distinguished_from_how_it_does() {
    for path in ["/3/0/0", "/3/0/18", "/6/0/1", "/9/4/1", "/9/0/7"] {
        assert!(is_fact(path), "{path}");
    }
    for path in [
        "/3/0/9", "/3/0/13", "/4/0/2", "/1/0/1", "/6/0/5", "/9/0/2", "/3", "x", "",
    ] {
        assert!(!is_fact(path), "{path}");
    }
}

#[test]
fn the_instances_that_are_read_are_those_that_the_thing_lists() {
    let (mut registry, now) = (Registry::default(), Instant::now());
    let links = "</0/0>,</1/0>,</3/0>,</4>,</5/0>,</6/0>,</9/0>,</9/7>,</3311/0>";
    let request = registration(&["ep=lamp"], links);
    let endpoint = endpoint_name(&request).unwrap().to_owned();
    let location = "a".to_owned();
    let registered = registry.register(now, addr(1), endpoint, &request, location);
    let listed = registered.unwrap().objects.inventory;
    let listed: Vec<_> = listed.iter().map(InstancePath::to_string).collect();
    assert_eq!(listed, ["/1/0", "/3/0", "/6/0", "/9/0", "/9/7"]);
    assert_eq!(create(at(3), &[], format::LWM2M_TLV), Some(vec![0, 0]));
}
