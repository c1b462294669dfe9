package storage

// Metrics are an engine's figures at one moment. Counters start at zero when
// the engine opens.
type Metrics struct {
	DiskBytes       uint64 // all files of the store
	Tables          int64  // sorted tables
	MemTableBytes   uint64 // in memory, not yet in tables
	WALBytes        uint64 // write-ahead log, live part
	CacheBytes      int64
	CacheHits       int64
	CacheMisses     int64
	RowCacheBytes   uint64
	RowCacheHits    uint64 // versions that were read without the store
	RowCacheMisses  uint64
	Flushes         int64 // memtables written to tables
	Compactions     int64
	CompactionDebt  uint64 // estimate of bytes that compactions have still to write
	ReadAmp         int    // sorted runs that a read may have to look at
	WriteStalls     uint64 // times that commits had to wait for flushes or compactions
	Syncs           uint64 // flushes of the write-ahead log asked for by Sync
	BytesCompacted  uint64 // written by compactions
	BytesFlushed    uint64 // written by flushes
	ObsoleteBytes   uint64 // deleted files that readers still hold or that wait for removal
	OpenIterators   int64  // over single tables, of readers and compactions
	RestoresStarted uint64
}

// Metrics returns the engine's figures.
func (e *Engine) Metrics() Metrics {
	m := e.db.Metrics()
	total := m.Total()
	var hits, misses, bytes uint64
	if e.rows != nil {
		hits, misses, bytes = e.rows.figures()
	}
	return Metrics{
		DiskBytes:       m.DiskSpaceUsage(),
		Tables:          total.TablesCount,
		MemTableBytes:   m.MemTable.Size,
		WALBytes:        m.WAL.Size,
		CacheBytes:      m.BlockCache.Size,
		CacheHits:       m.BlockCache.Hits,
		CacheMisses:     m.BlockCache.Misses,
		RowCacheBytes:   bytes,
		RowCacheHits:    hits,
		RowCacheMisses:  misses,
		Flushes:         m.Flush.Count,
		Compactions:     m.Compact.Count,
		CompactionDebt:  m.Compact.EstimatedDebt,
		ReadAmp:         m.ReadAmp(),
		WriteStalls:     e.stalls.Load(),
		Syncs:           e.flusher.flushes.Load(),
		BytesCompacted:  total.TableBytesCompacted,
		BytesFlushed:    total.TableBytesFlushed,
		ObsoleteBytes:   m.Table.ObsoleteSize + m.Table.ZombieSize,
		OpenIterators:   m.TableIters,
		RestoresStarted: e.restores.Load(),
	}
}
