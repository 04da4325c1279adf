// Weights that few rows meet are read once, from memory. The hardware looks ahead along them, too, but not
// far enough, and not over the end of a page. Included by kernel files, inside their unnamed namespace.

// On Zen 5, 2048 and 8192 measured less; on Zen 3, only 8192 did.
constexpr std::size_t kPrefetchBytes = 4096;

/// Asks for the `kBytes` that come kPrefetchBytes behind `now`; what lies behind a matrix does no harm.
template <std::size_t kBytes>
inline void prefetch(const void* now) {
  for (std::size_t line = 0; line < kBytes; line += 64)
    __builtin_prefetch(static_cast<const char*>(now) + kPrefetchBytes + line);
}
