package locks

// interval is a range lock that is held (wait == nil) or waited for, and a node of intervals.
type interval struct {
	span
	txn   *txn
	modes modeSet
	wait  *wait

	seq         uint64 // unique in its tree: tells equal spans apart
	max         string // largest hi in this subtree
	left, right *interval
}

// intervals is an interval tree: a treap ordered by (lo, seq) in which each node knows the largest
// upper end below it, so that the overlaps of a span are found in O(log n + answers). Priorities
// are a hash of seq; the shape therefore depends on nothing but the contents.
type intervals struct {
	root *interval
	len  int
}

func (n *interval) priority() uint64 { return n.seq * 0x9E3779B97F4A7C15 }

func (n *interval) less(o *interval) bool {
	return n.lo < o.lo || n.lo == o.lo && n.seq < o.seq
}

// refresh recomputes max after a change of the children.
func (n *interval) refresh() *interval {
	n.max = n.hi
	if n.left != nil {
		n.max = max(n.max, n.left.max)
	}
	if n.right != nil {
		n.max = max(n.max, n.right.max)
	}
	return n
}

func (t *intervals) insert(n *interval) {
	left, right := split(t.root, n)
	n.left, n.right = nil, nil
	t.root = merge(merge(left, n.refresh()), right)
	t.len++
}

func (t *intervals) remove(n *interval) {
	t.root = cut(t.root, n)
	n.left, n.right = nil, nil
	t.len--
}

// split parts a tree into the nodes before and after at.
func split(n, at *interval) (before, after *interval) {
	if n == nil {
		return nil, nil
	}
	if n.less(at) {
		n.right, after = split(n.right, at)
		return n.refresh(), after
	}
	before, n.left = split(n.left, at)
	return before, n.refresh()
}

// merge joins two trees, all of a before all of b.
func merge(a, b *interval) *interval {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority() > b.priority():
		a.right = merge(a.right, b)
		return a.refresh()
	}
	b.left = merge(a, b.left)
	return b.refresh()
}

// cut returns the tree without n, which must be in it.
func cut(root, n *interval) *interval {
	switch {
	case root == nil:
		panic("locks: interval is not in its tree")
	case root == n:
		return merge(n.left, n.right)
	case n.less(root):
		root.left = cut(root.left, n)
	default:
		root.right = cut(root.right, n)
	}
	return root.refresh()
}

// overlapping calls f for the intervals that share a key with s, in order.
func (t *intervals) overlapping(s span, f func(*interval)) { t.root.visit(s, f) }

func (n *interval) visit(s span, f func(*interval)) {
	if n == nil || n.max <= s.lo { // hi is exclusive: nothing below reaches s
		return
	}
	n.left.visit(s, f)
	if !s.reaches(n.lo) {
		return
	}
	if n.hi > s.lo {
		f(n)
	}
	n.right.visit(s, f)
}
