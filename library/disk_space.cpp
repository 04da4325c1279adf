#include "library/disk_space.h"

#include <sys/stat.h>

#include <cerrno>

#include "base/error.h"

namespace sluice::library {
namespace {

namespace fs = std::filesystem;

fs::path nearest_existing(const fs::path& path) {
  std::error_code unreadable;
  fs::path folder = fs::absolute(path).lexically_normal();
  while (folder.has_relative_path() && !fs::exists(folder, unreadable)) folder = folder.parent_path();
  return folder;
}

}  // namespace

std::uint64_t free_bytes(const fs::path& path) { return fs::space(nearest_existing(path)).available; }

bool share_space(const fs::path& a, const fs::path& b) {
  struct stat of_a {};
  struct stat of_b {};
  const auto look = [](const fs::path& path, struct stat& status) {
    if (::stat(path.c_str(), &status) != 0) base::throw_errno(path, "look at", errno);
  };
  look(nearest_existing(a), of_a);
  look(nearest_existing(b), of_b);
  return of_a.st_dev == of_b.st_dev;
}

std::uint64_t estimate_model_bytes(std::uint64_t release_bytes, std::string_view quant) {
  // Per mille of 16 bits a weight: q4 has up to 4.42 bits, q8 8.1 with scales and alignment.
  const std::uint64_t per_mille = quant == "q4" ? 280 : quant == "q8" ? 510 : 1000;
  return release_bytes / 1000 * per_mille;
}

}  // namespace sluice::library
