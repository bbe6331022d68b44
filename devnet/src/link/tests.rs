use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::{Link, Radio};

fn radio() -> Link {
    Link::Radio(Radio {
        namespace: "things".to_owned(),
        gateway: "[fe80::1%3]:5683".parse().unwrap(),
        szx: 2,
        dtls: false,
        rollout_within: Duration::from_secs(9),
    })
}

fn things(link: &Link) -> (String, Vec<OsString>) {
    let (program, arguments) = link.at_things(Path::new("/bin/l"), vec!["run".into()]);
    (program.display().to_string(), arguments)
}

/// The gateway of a radio listens on every interface, since the scope in its address is that of
/// the Things.
#[test]
fn a_radio_leads_into_the_namespace_of_its_things() {
    let loopback: SocketAddr = "127.0.0.1:20000".parse().unwrap();
    let radio = radio();
    assert_eq!(radio.listen(loopback), "[::]:5683".parse().unwrap());
    assert_eq!(radio.gateway(loopback), "[fe80::1%3]:5683".parse().unwrap());
    let words = ["netns", "exec", "things", "/bin/l", "run"].map(OsString::from);
    assert_eq!(things(&radio), ("ip".to_owned(), words.to_vec()));
    assert_eq!((radio.szx(), radio.rollout_within().as_secs()), (2, 9));
}

#[test]
fn on_the_loopback_everything_is_as_it_was_allocated() {
    let loopback: SocketAddr = "127.0.0.1:20000".parse().unwrap();
    let link = Link::default();
    assert_eq!(link.listen(loopback), loopback);
    assert_eq!(link.gateway(loopback), loopback);
    assert_eq!(things(&link), ("/bin/l".to_owned(), vec!["run".into()]));
    assert_eq!(link.szx(), 6);
}
