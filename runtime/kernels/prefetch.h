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

/// The codes that are needed next, to be asked for little by little: more at once than the machine keeps
/// track of would make it wait. (Asking for magnitudes and signs, too, gained nothing.)
struct Ahead {
  const std::byte* next;
  const std::byte* end;

  void ask(std::size_t bytes) {
    const auto left = static_cast<std::size_t>(end - next);
    for (const std::byte* stop = bytes < left ? next + bytes : end; next < stop; next += 64)
      __builtin_prefetch(next, 0, 2);
  }
};
