use super::LineBuffer;

#[test]
fn lines_come_out_as_they_were_sent_however_they_were_cut() {
    let text = b"one\n\ntwo and three\nrest";
    for piece in 1..=text.len() {
        let mut buffer = LineBuffer::default();
        let mut lines = Vec::new();
        for bytes in text.chunks(piece) {
            buffer.push(bytes);
            lines.extend(std::iter::from_fn(|| buffer.take_line()));
        }
        assert_eq!(lines, [&b"one"[..], b"", b"two and three"], "{piece}");
        assert_eq!(buffer.len(), 4);
    }
}

#[test]
fn no_byte_is_looked_at_twice() {
    let mut buffer = LineBuffer::default();
    for sent in 1..=1_000 {
        buffer.push(b"a");
        assert_eq!(buffer.take_line(), None);
        assert_eq!(buffer.searched, sent, "the next search begins behind them");
    }
    buffer.push(b"\nb");
    assert_eq!(buffer.take_line().unwrap().len(), 1_000);
    assert_eq!((buffer.searched, buffer.len()), (0, 1));
}
