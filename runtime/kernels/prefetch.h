// Prefetching of weights. Few rows read weights once, from memory; the hardware prefetcher does not look far
// enough ahead, and not over the end of a page. Kernel files include this inside their unnamed namespaces.

// How far ahead weights are prefetched. Measured: 2048 and 8192 are slower on Zen 5; on Zen 3 only 8192 is.
constexpr std::size_t kPrefetchBytes = 4096;

/// Prefetches the `kBytes` that come kPrefetchBytes after `now`. Addresses beyond a matrix do no harm: a
/// prefetch does not fault.
template <std::size_t kBytes>
inline void prefetch(const void* now) {
  for (std::size_t line = 0; line < kBytes; line += 64)
    __builtin_prefetch(static_cast<const char*>(now) + kPrefetchBytes + line);
}

/// The codes that are needed next. They are prefetched little by little, since the CPU stalls when there are
/// more requests than it can track. (Prefetching magnitudes and signs, too, gained nothing.)
struct Ahead {
  const std::byte* next;
  const std::byte* end;

  void prefetch_some(std::size_t bytes) {
    const auto left = static_cast<std::size_t>(end - next);
    for (const std::byte* stop = bytes < left ? next + bytes : end; next < stop; next += 64)
      __builtin_prefetch(next, 0, 2);
  }
};
