#include "format/leaf_file.h"

#include <doctest/doctest.h>

#include "base/hasher.h"
#include "base/merkle.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;
using base::Sha256;

namespace {

Sha256 leaf(int number) { return base::hash<Sha256>(base::as_bytes(std::to_string(number))); }

format::ReleaseFile file_with(const std::string& path, std::vector<Sha256> leaves) {
  format::ReleaseFile file;
  file.path = path;
  file.leaves = std::move(leaves);
  if (!file.leaves.empty()) file.root = base::merkle_root(file.leaves);
  return file;
}

format::ReleaseLayout sample_layout() {
  format::ReleaseLayout layout;
  layout.files = {file_with("a", {leaf(1), leaf(2), leaf(3)}), file_with("one block", {leaf(4)}),
                  file_with("empty", {}), file_with("b", {leaf(5), leaf(6)}),
                  file_with("like a", {leaf(1), leaf(2), leaf(3)})};
  return layout;
}

void write_bytes(const std::filesystem::path& path, base::Bytes bytes) { base::write_file(path, bytes); }

}  // namespace

TEST_CASE("leaves are found by their file's root, as many as there are") {
  const TempDir dir;
  const auto layout = sample_layout();
  format::write_leaf_file(dir / "x.leaves", layout);
  const auto leaves = format::LeafFile::open(dir / "x.leaves");
  CHECK((leaves.read(*layout.files[0].root, 0, 3) == layout.files[0].leaves));
  CHECK((leaves.read(*layout.files[0].root, 1, 100) == std::vector<Sha256>{leaf(2), leaf(3)}));
  CHECK((leaves.read(*layout.files[3].root, 1, 1) == std::vector<Sha256>{leaf(6)}));
  CHECK(leaves.read(*layout.files[0].root, 3, 1).empty());
  CHECK(leaves.read(*layout.files[1].root, 0, 1).empty());
  CHECK(leaves.read(leaf(9), 0, 1).empty());
}

TEST_CASE("a file of leaves that is cut at any byte, or goes on, is refused") {
  const TempDir dir;
  format::write_leaf_file(dir / "x.leaves", sample_layout());
  auto bytes = base::read_file(dir / "x.leaves");
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    write_bytes(dir / "cut", base::Bytes(bytes).first(length));
    CHECK_ERROR(format::LeafFile::open(dir / "cut"), ErrorKind::malformed, "cut: is too short");
  }
  bytes.push_back(std::byte{0});
  write_bytes(dir / "long", bytes);
  CHECK_ERROR(format::LeafFile::open(dir / "long"), ErrorKind::malformed,
              "long: has 393 bytes, expected 392");
}

TEST_CASE("what is no file of leaves is refused with its cause") {
  const TempDir dir;
  format::write_leaf_file(dir / "x.leaves", sample_layout());
  const auto good = base::read_file(dir / "x.leaves");
  const auto refuses = [&](std::size_t offset, std::uint64_t value, std::size_t count, const char* part) {
    auto bytes = good;
    for (std::size_t i = 0; i < count; ++i) bytes[offset + i] = static_cast<std::byte>(value >> (8 * i));
    write_bytes(dir / "bad", bytes);
    CHECK_ERROR(format::LeafFile::open(dir / "bad"), ErrorKind::malformed, part);
  };
  refuses(0, 'X', 1, "bad: is no file of leaves");
  refuses(8, 2, 4, "bad: has version 2, expected 1");
  refuses(12, 0xFFFFFFFF, 4, "bad: is too short for 4294967295 files");
  refuses(16 + 32, ~std::uint64_t{0}, 8, "bad: is too short for the 18446744073709551615 leaves of file 0");
  refuses(16 + 32, 2, 8, "bad: has 392 bytes, expected 360");
}
