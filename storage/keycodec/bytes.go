package keycodec

import "bytes"

// Inside a byte string a zero byte is followed by escaped, at its end by
// terminator. Since terminator is the smaller, a string sorts before its
// extensions.
const (
	escape     = 0x00
	escaped    = 0xff
	terminator = 0x01
)

// AppendBytes adds a byte string, which sorts bytewise.
func AppendBytes(dst, v []byte, desc bool) []byte {
	start := len(dst)
	dst = append(dst, tagBytes)
	for {
		i := bytes.IndexByte(v, escape)
		if i < 0 {
			break
		}
		dst = append(append(dst, v[:i]...), escape, escaped)
		v = v[i+1:]
	}
	dst = append(append(dst, v...), escape, terminator)
	invert(dst[start:], desc)
	return dst
}

// DecodeBytes reads a byte string. v shares nothing with b and is not nil.
func DecodeBytes(b []byte, desc bool) (v, rest []byte, err error) {
	end, escapes, ok := scanBytes(b, desc)
	if !ok {
		return nil, nil, malformed(KindBytes, b)
	}
	m := mask(desc)
	content := b[1 : end-2]
	v = make([]byte, 0, len(content)-escapes)
	for len(content) > 0 {
		i := bytes.IndexByte(content, escape^m)
		if i < 0 {
			v = append(v, content...)
			break
		}
		v = append(v, content[:i+1]...)
		content = content[i+2:]
	}
	invert(v, desc)
	return v, b[end:], nil
}

// skipBytes returns what follows a byte string.
func skipBytes(b []byte, desc bool) ([]byte, error) {
	end, _, ok := scanBytes(b, desc)
	if !ok {
		return nil, malformed(KindBytes, b)
	}
	return b[end:], nil
}

// scanBytes finds the end of a byte string, terminator included, and counts the
// escaped zeros in it.
func scanBytes(b []byte, desc bool) (end, escapes int, ok bool) {
	m := mask(desc)
	if len(b) == 0 || b[0]^m != tagBytes {
		return 0, 0, false
	}
	for at := 1; ; escapes++ {
		i := bytes.IndexByte(b[at:], escape^m)
		if i < 0 || at+i+1 >= len(b) {
			return 0, 0, false
		}
		at += i + 2
		switch b[at-1] ^ m {
		case terminator:
			return at, escapes, true
		case escaped:
		default:
			return 0, 0, false
		}
	}
}
