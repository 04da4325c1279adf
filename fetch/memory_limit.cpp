#include "fetch/memory_limit.h"

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <string>

namespace sluice::fetch {

std::optional<std::uint64_t> parse_data_bytes(std::string_view status) {
  constexpr std::string_view kKey = "\nVmData:";
  const std::size_t at = status.find(kKey);
  if (at == status.npos) return std::nullopt;
  std::string_view rest = status.substr(at + kKey.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  std::uint64_t kib = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), kib);
  if (error != std::errc() || end == rest.data()) return std::nullopt;
  return kib << 10;
}

void limit_memory(std::uint64_t bytes) {
  std::ifstream file("/proc/self/status");
  const auto now = parse_data_bytes(std::string{std::istreambuf_iterator<char>(file), {}});
  constexpr std::uint64_t kSensible = std::uint64_t{1} << 40;  // more is a sanitizer's shadow
  if (!now || *now > kSensible || bytes > kSensible) return;
  rlimit limit{};
  if (::getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(*now + bytes, limit.rlim_max);
  static_cast<void>(::setrlimit(RLIMIT_DATA, &limit));
}

}  // namespace sluice::fetch
