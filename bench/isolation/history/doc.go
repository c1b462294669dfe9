// Package history judges what clients of a database have seen: it takes a
// history of transactions, says in which order they must have happened, and
// names the anomalies for which there is no such order.
//
// The method is Elle's (Kingsbury and Alvaro, "Elle: Inferring Isolation
// Anomalies from Experimental Observations", VLDB 2020), the names are those of
// Adya's thesis. The code is our own.
//
// # What is inferred
//
// A list that is only appended to tells its own history: the longest list that
// somebody read is the order of its versions, every shorter one must be a
// prefix of it. A register that is overwritten with unique values tells less:
// its first version is the initial one, and a transaction that read a version
// and wrote another wrote the later one. [Options] adds what a database
// promises about the order of sessions or of time.
//
// Versions give dependencies between transactions:
//
//	ww  T2 wrote the version after the one that T1 wrote
//	wr  T2 read a version that T1 wrote
//	rw  T2 wrote the version after the one that T1 read
//	process   T2 followed T1 in one session
//	realtime  T2 began after T1 had been acknowledged
//
// A cycle of them is an anomaly; its name follows from the edges that it needs
// (see cycles.go). Other anomalies show in one or two transactions: a read of
// what was rolled back, a read of an intermediate version, a transaction that
// misses its own writes (see lists.go and registers.go). [Model] says which
// anomalies an isolation level excludes.
//
// # What is not seen
//
// Predicates: an interval read is taken as reads of the keys that it should
// have returned, so that phantoms show as stale reads of these keys.
//
// A transaction of unknown outcome counts as one that happened if somebody saw
// one of its writes, and then has no end in time; otherwise it does not count.
//
// # Cost
//
// All searches are linear in the number of dependencies: whether a class of
// cycles exists is decided by strong components (Tarjan), for the classes in
// which anti-dependencies must not be adjacent by the components of a graph of
// twice the size. Only the search for an example to print is bounded, so that a
// verdict never depends on luck.
package history
