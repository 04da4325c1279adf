// RLIMIT_DATA instead of RLIMIT_AS: address space that is only reserved (mapped files, a sanitizer's
// shadow memory) must not count. The limit is relative to what the process has at its start, because that
// differs between builds.

#include "fetch/job/memory_limit.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace sluice::fetch {

std::optional<std::uint64_t> parse_data_bytes(std::string_view status) {
  constexpr std::string_view kKey = "\nVmData:";  // in KiB; see proc_pid_status(5)
  const std::size_t at = status.find(kKey);
  if (at == status.npos) return std::nullopt;
  std::string_view rest = status.substr(at + kKey.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  std::uint64_t kib = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), kib);
  if (error != std::errc() || end == rest.data()) return std::nullopt;
  return kib << 10;
}

namespace {

/// RLIMIT_DATA counts whole stacks and the free memory that malloc keeps, per thread and between long-lived
/// blocks. So stacks are small, threads share two arenas, and large buffers are mapped, which returns them
/// when they are freed.
void make_allocations_small() {
  constexpr std::size_t kStackBytes = 512 << 10;
  constexpr int kLargeBytes = 128 << 10;
  pthread_attr_t attributes;
  if (::pthread_attr_init(&attributes) != 0) return;
  if (::pthread_attr_setstacksize(&attributes, kStackBytes) == 0) ::pthread_setattr_default_np(&attributes);
  ::pthread_attr_destroy(&attributes);
  ::mallopt(M_ARENA_MAX, 2);
  ::mallopt(M_MMAP_THRESHOLD, kLargeBytes);
}

}  // namespace

void limit_memory(std::uint64_t bytes, std::new_handler on_failure) {
  std::ifstream file("/proc/self/status");
  const auto now = parse_data_bytes(std::string{std::istreambuf_iterator<char>(file), {}});
  constexpr std::uint64_t kSensible = std::uint64_t{1} << 40;  // more is a sanitizer's shadow
  if (!now || *now > kSensible || bytes > kSensible) return;
  make_allocations_small();  // before threads start and large buffers are allocated
  std::set_new_handler(on_failure);
  rlimit limit{};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(*now + bytes, limit.rlim_max);
  static_cast<void>(::setrlimit(RLIMIT_DATA, &limit));
}

void return_free_memory() { ::malloc_trim(0); }

}  // namespace sluice::fetch
