//! Pages of browsers: only those of configured origins may read answers.

use lamplighter_api::{HttpSettings, SettingsError};
use reqwest::{Method, Response};

use crate::node::Node;

const CMS: &str = "https://cms.example.org";
const OTHER: &str = "https://other.example.org";

pub fn settings() -> HttpSettings {
    HttpSettings {
        cors_origins: vec![CMS.to_owned()],
        ..HttpSettings::default()
    }
}

async fn preflight(node: &Node, origin: &str) -> Response {
    node.open(Method::OPTIONS, "/v1/devices")
        .header("origin", origin)
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization")
        .send()
        .await
        .unwrap()
}

fn allowed(response: &Response) -> Option<&str> {
    let origin = response.headers().get("access-control-allow-origin")?;
    Some(origin.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_configured_origins_read_answers() {
    let node = Node::start_with_http(settings()).await;
    let answer = preflight(&node, CMS).await;
    assert_eq!(
        (answer.status().as_u16(), allowed(&answer)),
        (200, Some(CMS))
    );
    let headers = answer.headers();
    assert!(
        headers["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("authorization")
    );
    assert!(
        !headers.contains_key("access-control-allow-credentials"),
        "no cookies"
    );
    let read = node.request(Method::GET, "/v1/devices");
    let answer = read.header("origin", CMS).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), allowed(&answer)),
        (200, Some(CMS))
    );
    let exposed = answer.headers()["access-control-expose-headers"]
        .to_str()
        .unwrap();
    assert!(exposed.contains("ledger-height"), "{exposed}");
    // Errors as well: a page must be able to read why it was refused.
    let refused = node.open(Method::GET, "/v1/devices");
    let refused = refused.header("origin", CMS).send().await.unwrap();
    assert_eq!(
        (refused.status().as_u16(), allowed(&refused)),
        (401, Some(CMS))
    );
    assert_eq!(allowed(&preflight(&node, OTHER).await), None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_reads_answers_unless_configured() {
    let node = Node::start().await;
    assert_eq!(allowed(&preflight(&node, CMS).await), None);
    let read = node.request(Method::GET, "/v1/devices");
    let answer = read.header("origin", CMS).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), allowed(&answer)), (200, None));
    node.stop().await;
}

#[test]
fn an_origin_has_the_form_in_which_browsers_send_it() {
    let with = |origin: &str| HttpSettings {
        cors_origins: vec![origin.to_owned()],
        ..HttpSettings::default()
    };
    for good in [CMS, "http://localhost:3000", "http://[::1]:3000"] {
        assert_eq!(with(good).check(), Ok(()), "{good}");
    }
    for bad in [
        "*",
        "cms.example.org",
        "https://",
        "https://a/b",
        "https://A",
        "null",
        "",
    ] {
        let error = SettingsError::Origin(bad.to_owned());
        assert_eq!(with(bad).check(), Err(error), "{bad}");
    }
}
