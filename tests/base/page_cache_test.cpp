#include "base/page_cache.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <algorithm>
#include <random>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/guarded_mapping.h"
#include "tests/support/temp_dir.h"

using namespace sluice::base;
using sluice::tests::TempDir;

namespace {

std::vector<std::byte> random_bytes(std::size_t count) {
  std::mt19937 random(3);
  std::vector<std::byte> bytes(count);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

/// A file of which nothing is in the page cache, where the file system can do that.
File make_uncached(const TempDir& dir, const std::vector<std::byte>& content) {
  File file = File::create(dir / "f");
  file.write_at(0, content);
  file.sync();
  file.drop_cache(0, content.size());
  return file;
}

/// All bytes of the range through a reader with chunks of random lengths.
std::vector<std::byte> read_range(const CachedSource& source, std::uint64_t offset_bytes,
                                  std::uint64_t length_bytes, const CachedRangeReader::Options& options) {
  std::mt19937 random(4);
  AlignedBuffer buffer(200000);
  CachedRangeReader reader(source, offset_bytes, length_bytes, options);
  std::vector<std::byte> all;
  while (all.size() < length_bytes) {
    const auto limit = std::min<std::uint64_t>(buffer.bytes().size(), length_bytes - all.size());
    const auto count = std::uniform_int_distribution<std::uint64_t>(1, limit)(random);
    const Bytes got = reader.read(buffer.bytes().first(static_cast<std::size_t>(count)));
    if (got.empty()) break;
    all.insert(all.end(), got.begin(), got.end());
  }
  return all;
}

constexpr std::size_t kFileBytes = (std::size_t{21} << 20) + 123;

}  // namespace

TEST_CASE("ranges have the same bytes, cached or not, with or without a disk queue") {
  const TempDir dir;
  const auto content = random_bytes(kFileBytes);
  const File file = make_uncached(dir, content);
  for (const bool ordered : {false, true}) {
    DiskQueue queue;
    const CachedSource source(file, content.size(), ordered ? &queue : nullptr);
    for (const bool drop : {true, true, false, false}) {
      for (const auto& [offset, length] :
           {std::pair{0u, kFileBytes}, {777u, std::size_t{9} << 20}, {5u, std::size_t{0}}}) {
        CAPTURE(offset);
        const auto got = read_range(source, offset, length, {drop, offset});
        CHECK(std::ranges::equal(got, Bytes(content).subspan(offset, length)));
      }
    }
  }
}

TEST_CASE("pages that a read brings into the page cache are dropped, and pages that were there stay") {
  const TempDir dir;
  const auto content = random_bytes(kFileBytes);
  const File file = make_uncached(dir, content);
  const CachedSource source(file, content.size(), nullptr);
  if (source.cached_share(0, kFileBytes) > 0) {
    MESSAGE("this file system does not let go of the page cache: skipped");
    return;
  }
  read_range(source, 0, kFileBytes, {true, 0});
  CHECK(source.cached_share(0, kFileBytes) == 0);
  constexpr std::uint64_t kHalf = std::uint64_t{12} << 20;  // whole windows
  read_range(source, 0, kHalf, {false, 0});
  CHECK(source.cached_share(0, kHalf) == 1);
  read_range(source, 0, kFileBytes, {true, 0});
  CHECK(source.cached_share(0, kHalf) == 1);
  CHECK(source.cached_share(kHalf, kFileBytes - kHalf) == 0);
}

TEST_CASE("a mapped file that is cut reads as zeros and is broken, and other mappings are not affected") {
  const TempDir dir;
  const std::vector<std::byte> content(100000, std::byte{7});
  write_file(dir / "f", content);
  write_file(dir / "g", content);
  const File cut = File::open_read(dir / "f");
  const File whole = File::open_read(dir / "g");
  const GuardedMapping first(cut, content.size());
  const GuardedMapping second(whole, content.size());
  REQUIRE(first.bytes().size() == content.size());
  CHECK(first.bytes()[99999] == std::byte{7});
  File::open_update(dir / "f").resize(20000);
  CHECK(first.bytes()[19999] == std::byte{7});
  CHECK_FALSE(first.is_broken());
  CHECK(all_zero(first.bytes().subspan(50000)));
  CHECK(first.is_broken());
  CHECK(std::ranges::equal(second.bytes(), content));
  CHECK_FALSE(second.is_broken());
}

TEST_CASE("mappings beyond the handler's limit are empty") {
  const TempDir dir;
  write_file(dir / "f", as_bytes("content"));
  const File file = File::open_read(dir / "f");
  std::vector<std::unique_ptr<GuardedMapping>> mappings;
  for (int i = 0; i < 300; ++i) mappings.push_back(std::make_unique<GuardedMapping>(file, 7));
  CHECK(as_text(mappings.front()->bytes()) == "content");
  CHECK(mappings.back()->bytes().empty());
  CHECK_FALSE(mappings.back()->is_broken());
  mappings.clear();
  CHECK(as_text(GuardedMapping(file, 7).bytes()) == "content");
}
