#include "base/part_file.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"

using namespace sluice::base;
using sluice::tests::TempDir;
namespace fs = std::filesystem;

namespace {

/// As a process that is killed leaves it.
void begin_file(const fs::path& path) {
  PartFile part(path);
  part.file().write_at(0, as_bytes("half"));
  part.journal().write_at(0, as_bytes("notes"));
}

}  // namespace

TEST_CASE("a part file and its journal stay until the file is finished") {
  const TempDir folder;
  write_file(folder / "m", as_bytes("old"));
  begin_file(folder / "m");
  CHECK(read_text_file(folder / "m") == "old");
  CHECK(read_text_file(folder / ".m.part") == "half");
  {
    PartFile part(folder / "m");
    CHECK(part.journal().size_bytes() == 5);
    part.file().write_at(4, as_bytes(" and half"));
    part.commit();
  }
  CHECK(read_text_file(folder / "m") == "half and half");
  CHECK_FALSE(fs::exists(folder / ".m.part"));
  CHECK_FALSE(fs::exists(folder / ".m.part.journal"));
}

TEST_CASE("a discarded part file leaves nothing") {
  const TempDir folder;
  begin_file(folder / "m");
  PartFile(folder / "m").discard();
  CHECK(fs::is_empty(folder.path()));
  begin_file(folder / "m");
  discard_part_file(folder / "m");
  CHECK(fs::is_empty(folder.path()));
  discard_part_file(folder / "m");
}

TEST_CASE("a journal without its part file is emptied") {
  const TempDir folder;
  begin_file(folder / "m");
  fs::remove(folder / ".m.part");
  CHECK(PartFile(folder / "m").journal().size_bytes() == 0);
}

TEST_CASE("a part file has one writer") {
  const TempDir folder;
  std::optional<PartFile> first(folder / "m");
  first->file().write_at(0, as_bytes("mine"));
  CHECK_ERROR(PartFile(folder / "m"), ErrorKind::usage, "m: another process is making this file");
  discard_part_file(folder / "m");
  CHECK(fs::exists(folder / ".m.part"));
  first->commit();
  // The finished file is still open there: another one begins with a file of its own.
  PartFile second(folder / "m");
  CHECK(second.file().size_bytes() == 0);
  first.reset();
  CHECK(read_text_file(folder / "m") == "mine");
}

TEST_CASE("a part file is not written through a link, nor into a folder that is not there") {
  const TempDir folder;
  write_file(folder / "precious", as_bytes("precious"));
  fs::create_symlink(folder / "precious", folder / ".m.part");
  CHECK_ERROR(PartFile(folder / "m"), ErrorKind::io, "symbolic link");
  CHECK_ERROR(PartFile(folder / "none" / "m"), ErrorKind::io, "No such file");
  fs::create_symlink(folder / "precious", folder / ".n.part.journal");
  CHECK_ERROR(PartFile(folder / "n"), ErrorKind::io, "symbolic link");
  CHECK(read_text_file(folder / "precious") == "precious");
}

TEST_CASE("a part file or journal that is something else under another name is not written") {
  const TempDir folder;
  write_file(folder / "precious", as_bytes("precious"));
  fs::create_hard_link(folder / "precious", folder / ".m.part");
  CHECK_ERROR(PartFile(folder / "m"), ErrorKind::usage, ".m.part: has another name, too");
  fs::create_hard_link(folder / "precious", folder / ".n.part.journal");
  CHECK_ERROR(PartFile(folder / "n"), ErrorKind::usage, ".n.part.journal: has another name, too");
  CHECK(read_text_file(folder / "precious") == "precious");
}

TEST_CASE("a part file of another user is not written") {
  if (::geteuid() != 0) return;  // only root can make files of others
  const TempDir folder;
  write_file(folder / ".m.part", as_bytes("theirs"));
  REQUIRE(::chown((folder / ".m.part").c_str(), 65534, 65534) == 0);
  CHECK_ERROR(PartFile(folder / "m"), ErrorKind::usage, ".m.part: belongs to another user (uid 65534)");
  CHECK(read_text_file(folder / ".m.part") == "theirs");
}

TEST_CASE("a part file behind a symbolic link lies beside the target, and the link stays") {
  const TempDir folder;
  fs::create_directory(folder / "disk");
  fs::create_symlink("disk/m", folder / "link");
  PartFile part(folder / "link");
  CHECK(fs::exists(folder / "disk/.m.part"));
  part.file().write_at(0, as_bytes("model"));
  part.commit();
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(read_text_file(folder / "disk/m") == "model");
  // A link that was put there meanwhile is not replaced.
  PartFile other(folder / "o");
  fs::create_symlink("disk/m", folder / "o");
  CHECK_ERROR(other.commit(), ErrorKind::usage, "o: is a symbolic link");
}
