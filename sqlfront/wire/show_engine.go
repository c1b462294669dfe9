package wire

// innodbStatus is what SHOW ENGINE INNODB STATUS is answered from; the grammar does not know the statement.
const innodbStatus = "SELECT Type, Name, Status FROM rowlock.innodb_status"

// rewriteShowEngine replaces SHOW ENGINE INNODB STATUS at the head of a text.
func rewriteShowEngine(text string) (string, []edit) {
	if !mayHold(text, "INNODB") {
		return text, nil
	}
	s := &scanner{text: text}
	first := s.word()
	from := s.start
	if first != "SHOW" || s.word() != "ENGINE" || s.word() != "INNODB" || s.word() != "STATUS" {
		return text, nil
	}
	out := text[:from] + innodbStatus
	return out + text[s.pos:], []edit{{end: len(out), shift: len(out) - s.pos}}
}
