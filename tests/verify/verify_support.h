#pragma once
// Releases to verify, and how to look at what was said of them.

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <string>

#include "base/file.h"
#include "base/hasher.h"
#include "base/merkle.h"
#include "tests/verify/release_maker.h"
#include "verify/verify.h"

namespace sluice::tests {

using Ranges = std::vector<std::pair<std::uint64_t, std::uint64_t>>;  // offset, length

inline Ranges ranges_of(const verify::FileReport& file) {
  Ranges ranges;
  for (const auto& damage : file.damaged)
    ranges.emplace_back(damage.range.offset_bytes, damage.range.length_bytes);
  return ranges;
}

inline verify::Report run(const std::filesystem::path& folder, const verify::Expectations& expectations,
                          unsigned threads = 2, bool strict = false) {
  base::NoProgress progress;
  return verify::verify_release(folder, expectations, {threads, 1u << 20, strict}, progress, {});
}

inline verify::Expectations by(format::ReleaseLayout layout) { return {std::move(layout), std::nullopt}; }
inline verify::Expectations by(format::Manifest manifest) { return {std::nullopt, std::move(manifest)}; }

inline const verify::FileReport& report_of(const verify::Report& report, const std::string& path) {
  const auto found = std::ranges::find(report.files, path, &verify::FileReport::path);
  REQUIRE_MESSAGE(found != report.files.end(), path);
  return *found;
}

inline verify::FileState state_of(const verify::Report& report, const std::string& path) {
  return report_of(report, path).state;
}

inline Content random_content(std::mt19937& random, std::size_t count) {
  Content content(count);
  for (std::byte& b : content) b = static_cast<std::byte>(random());
  return content;
}

inline std::size_t below(std::mt19937& random, std::size_t limit) {
  return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random);
}

inline MadeRelease random_release(std::mt19937& random) {
  MadeRelease release;
  release.piece_bytes = 16384u << below(random, 3);
  const std::size_t count = 1 + below(random, 6);
  constexpr std::size_t kSizes[] = {0, 1, 16384, 16385, 65536, 131072};
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t size =
        below(random, 3) == 0 ? kSizes[below(random, std::size(kSizes))] : below(random, 300000);
    release.files.push_back(
        {(i % 2 == 0 ? "f" : "sub/f") + std::to_string(i), random_content(random, size), false});
  }
  if (release.files.front().content.empty()) release.files.front().content = random_content(random, 100);
  return release;
}

/// Flips one bit of the file on disk.
inline void flip(const std::filesystem::path& file, std::uint64_t at_bit) {
  std::byte b{};
  base::File target = base::File::open_update(file);
  target.read_exact_at(at_bit / 8, {&b, 1});
  b ^= std::byte{1} << static_cast<int>(at_bit % 8);
  target.write_at(at_bit / 8, {&b, 1});
}

constexpr Hashes kAllHashes[] = {Hashes::v1, Hashes::v2, Hashes::v2_leaves, Hashes::v2_roots, Hashes::hybrid};

inline format::Manifest manifest_of(const MadeRelease& release) {
  format::Manifest manifest;
  manifest.name = "m";
  for (const MadeFile& made : release.files) {
    if (made.pad) continue;
    format::ManifestFile& file = manifest.files.emplace_back();
    file.path = made.path;
    file.length_bytes = made.content.size();
    file.md5 = base::hash<base::Md5>(made.content);
    file.sha256 = base::hash<base::Sha256>(made.content);
    file.root = base::merkle_digest(made.content);
  }
  return manifest;
}

/// Three files, of which the v1 pieces of 16 KiB run across the borders.
inline MadeRelease three_files() {
  std::mt19937 random(7);
  MadeRelease release;
  for (const char* path : {"a", "sub/b", "c"})
    release.files.push_back({path, random_content(random, 40000), false});
  return release;
}

}  // namespace sluice::tests
