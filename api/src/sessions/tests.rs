use super::*;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn new(number: u8, issued_ms: u64) -> NewSession {
    NewSession {
        session: SessionId([number; 16]),
        key: PublicKey([1; 32]),
        audience: Audience::HttpRead,
        issued_ms,
        expires_ms: issued_ms + 1_000,
        address: None,
    }
}

fn numbers(sessions: &Sessions, account: &str, now_ms: u64) -> Vec<u8> {
    let all = sessions.list(&id(account), None, now_ms);
    all.iter().map(|listed| listed.session.0[0]).collect()
}

#[test]
fn the_oldest_session_of_an_account_ends_for_a_new_one() {
    let sessions = Sessions::default();
    sessions.begin_within(&id("anna"), new(0, 0), 3, 100);
    let first = sessions.open(&id("anna"), &SessionId([0; 16])).unwrap();
    for number in 1..4 {
        assert!(!first.has_ended());
        sessions.begin_within(&id("anna"), new(number, number.into()), 3, 100);
    }
    assert!(first.has_ended());
    assert_eq!(numbers(&sessions, "anna", 5), [1, 2, 3]);
    assert!(sessions.open(&id("anna"), &SessionId([0; 16])).is_none());
}

#[test]
fn an_account_that_logs_in_without_pause_ends_no_session_of_others() {
    let sessions = Sessions::default();
    sessions.begin_within(&id("anna"), new(0, 0), 256, 10);
    for number in 1..=100 {
        sessions.begin_within(&id("eve"), new(number, 1), 256, 10);
    }
    assert_eq!(numbers(&sessions, "anna", 2), [0]);
    assert_eq!(numbers(&sessions, "eve", 2).len(), 9);
    // There is room for others, at the cost of the account with the most.
    sessions.begin_within(&id("bob"), new(101, 1), 256, 10);
    assert_eq!(numbers(&sessions, "bob", 2), [101]);
    assert_eq!(numbers(&sessions, "anna", 2), [0]);
    assert_eq!(sessions.lock().count, 10);
}

#[test]
fn expired_sessions_make_room_before_others_end() {
    let sessions = Sessions::default();
    sessions.begin_within(&id("anna"), new(0, 0), 256, 2);
    sessions.begin_within(&id("bob"), new(1, 900), 256, 2);
    assert!(numbers(&sessions, "anna", 1_000).is_empty());
    sessions.begin_within(&id("carl"), new(2, 1_000), 256, 2);
    assert_eq!(numbers(&sessions, "bob", 1_000), [1]);
    assert_eq!(numbers(&sessions, "carl", 1_000), [2]);
    let table = sessions.lock();
    assert_eq!((table.count, table.accounts.len()), (2, 2));
}

#[test]
fn a_session_counts_what_it_has_open_and_ends_it() {
    let (sessions, anna) = (Sessions::default(), id("anna"));
    for number in 0..3 {
        sessions.begin(&anna, new(number, 0));
    }
    let stream = sessions.open(&anna, &SessionId([1; 16])).unwrap();
    let listed = sessions.list(&anna, Some(&SessionId([2; 16])), 1);
    let seen = listed.iter().map(|l| (l.connections, l.current));
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [(0, false), (1, false), (0, true)]
    );
    assert!(!sessions.end(&id("eve"), &SessionId([1; 16])), "another's");
    assert!(!stream.has_ended());
    assert!(sessions.end(&anna, &SessionId([1; 16])));
    assert!(stream.has_ended());
    assert!(!sessions.end(&anna, &SessionId([1; 16])), "it is gone");
    assert_eq!(sessions.end_all(&anna, Some(&SessionId([2; 16]))), 1);
    assert_eq!(numbers(&sessions, "anna", 1), [2]);
    assert_eq!(sessions.end_all(&anna, None), 1);
    let table = sessions.lock();
    assert_eq!((table.count, table.accounts.len()), (0, 0));
}
