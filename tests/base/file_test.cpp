#include "base/file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/file_lock.h"
#include "tests/support/as_nobody.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"

using namespace sluice::base;
using sluice::tests::TempDir;
namespace fs = std::filesystem;

namespace {

std::size_t entries_in(const fs::path& folder) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// A file system of one MiB, where that can be had.
class TinyDisk {
 public:
  TinyDisk() { mounted_ = ::mount("tmpfs", dir_.path().c_str(), "tmpfs", 0, "size=1m,nr_inodes=20") == 0; }
  ~TinyDisk() {
    if (mounted_) ::umount2(dir_.path().c_str(), MNT_DETACH);
  }
  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] fs::path operator/(const char* name) const { return dir_ / name; }
  [[nodiscard]] const fs::path& path() const { return dir_.path(); }

 private:
  TempDir dir_;
  bool mounted_ = false;
};

}  // namespace

TEST_CASE("a file is written and read at any offset") {
  const TempDir dir;
  {
    File file = File::create(dir / "f");
    file.write_at(5, as_bytes("world"));
    file.write_at(0, as_bytes("hello"));
    file.sync();
    CHECK(file.size_bytes() == 10);
    file.resize(8);
  }
  const File file = File::open_read(dir / "f");
  std::array<std::byte, 20> buffer{};
  CHECK(file.read_at(0, buffer) == 8);
  CHECK(as_text(Bytes(buffer).first(8)) == "hellowor");
  CHECK(file.read_at(6, buffer) == 2);
  CHECK(file.read_at(8, buffer) == 0);
  CHECK(file.read_at(1u << 20, buffer) == 0);
  CHECK_ERROR(file.read_exact_at(6, buffer), ErrorKind::malformed, "ends at byte 8, expected at least 26");
}

TEST_CASE("create empties a file, open_update keeps it") {
  const TempDir dir;
  write_file(dir / "f", as_bytes("content"));
  File::open_update(dir / "f").write_at(0, as_bytes("C"));
  CHECK(read_text_file(dir / "f") == "Content");
  CHECK(File::create(dir / "f").size_bytes() == 0);
}

TEST_CASE("a file that is not regular is refused without waiting") {
  const TempDir dir;
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  CHECK_ERROR(File::open_read(dir / "none"), ErrorKind::io, "cannot open: No such file");
  CHECK_ERROR(File::open_read(dir.path()), ErrorKind::io, "is a folder, not a file");
  CHECK_ERROR(File::open_read(dir / "pipe"), ErrorKind::io, "is not a regular file");
  CHECK_ERROR(File::open_read("/dev/zero"), ErrorKind::io, "is not a regular file");
  CHECK_ERROR(MappedFile::open_read(dir / "none"), ErrorKind::io, "none");
  CHECK_ERROR(File::create(dir / "no/such/folder"), ErrorKind::io, "cannot create");
  CHECK_ERROR(File::open_update(dir / "none"), ErrorKind::io, "cannot open for writing");
}

TEST_CASE("a moved file has one owner") {
  const TempDir dir;
  File first = File::create(dir / "f");
  const int descriptor = first.descriptor();
  File second = std::move(first);
  CHECK(first.descriptor() == -1);
  CHECK(second.descriptor() == descriptor);
  File third = File::create(dir / "g");
  third = std::move(second);
  CHECK(third.descriptor() == descriptor);
  third.write_at(0, as_bytes("x"));
  CHECK(read_text_file(dir / "f") == "x");
}

TEST_CASE("a mapped file has the bytes of the file, also when it is empty") {
  const TempDir dir;
  write_file(dir / "f", as_bytes("mapped"));
  write_file(dir / "empty", {});
  auto mapped = MappedFile::open_read(dir / "f");
  auto moved = std::move(mapped);
  CHECK(as_text(moved.bytes()) == "mapped");
  CHECK(MappedFile::open_read(dir / "empty").bytes().empty());
}

TEST_CASE("a mapped file that is cut reads as zeros and says where, also after a move") {
  const TempDir dir;
  const std::vector<std::byte> content(100000, std::byte{7});
  write_file(dir / "f", content);
  auto mapped = MappedFile::open_read(dir / "f");
  File::open_update(dir / "f").resize(20000);
  CHECK(mapped.bytes()[19999] == std::byte{7});
  CHECK_NOTHROW(mapped.require_whole());
  CHECK(mapped.bytes()[50000] == std::byte{0});
  const auto moved = std::move(mapped);
  CHECK_ERROR(moved.require_whole(), ErrorKind::io, "f: byte 50000 can no longer be read: the file was cut");
}

TEST_CASE("a file counts as this user's alone when nobody else can have written it") {
  const TempDir dir;
  fs::permissions(dir.path(), fs::perms(0755));  // for the part that runs as another user
  write_file(dir / "f", as_bytes("x"));
  const auto alone = [&] { return only_this_user_writes(File::open_read(dir / "f")); };
  const auto mode = [&](unsigned bits) {
    std::filesystem::permissions(dir / "f", static_cast<std::filesystem::perms>(bits));
  };
  for (const unsigned bits : {0600u, 0644u, 0444u}) {
    CAPTURE(bits);
    mode(bits);
    CHECK(alone());
  }
  for (const unsigned bits : {0620u, 0602u, 0666u}) {
    CAPTURE(bits);
    mode(bits);
    CHECK_FALSE(alone());
  }
  auto file = File::open_update(dir / "f");
  deny_others_writing(file);
  CHECK(alone());
  CHECK(std::filesystem::status(dir / "f").permissions() == static_cast<std::filesystem::perms>(0644));
  if (::geteuid() != 0) return;
  {
    const sluice::tests::AsNobody nobody;
    CHECK(alone());  // root's
  }
  REQUIRE(::chown((dir / "f").c_str(), 65534, 65534) == 0);
  CHECK_FALSE(alone());
  const sluice::tests::AsNobody nobody;
  CHECK(alone());
}

TEST_CASE("mapping more files than can be guarded is an error") {
  const TempDir dir;
  write_file(dir / "f", as_bytes("mapped"));
  std::vector<MappedFile> files;
  const auto map_all = [&] {
    for (int i = 0; i < 300; ++i) files.push_back(MappedFile::open_read(dir / "f"));
  };
  CHECK_ERROR(map_all(), ErrorKind::io, "f: too many files are mapped");
  files.clear();
  CHECK(as_text(MappedFile::open_read(dir / "f").bytes()) == "mapped");
}

TEST_CASE("an atomic file appears when it is committed, and leaves nothing when it is not") {
  const TempDir dir;
  write_file(dir / "f", as_bytes("old"));
  {
    AtomicFile abandoned(dir / "f");
    abandoned.file().write_at(0, as_bytes("new"));
    CHECK(read_text_file(dir / "f") == "old");
    CHECK(entries_in(dir.path()) == 2);
  }
  CHECK(entries_in(dir.path()) == 1);
  CHECK(read_text_file(dir / "f") == "old");
  {
    AtomicFile committed(dir / "f");
    committed.file().write_at(0, as_bytes("new"));
    committed.commit();
  }
  CHECK(entries_in(dir.path()) == 1);
  CHECK(read_text_file(dir / "f") == "new");
}

TEST_CASE("two atomic files of one name in one process do not write into each other") {
  const TempDir dir;
  AtomicFile first(dir / "f");
  AtomicFile second(dir / "f");
  first.file().write_at(0, as_bytes("first, the longer"));
  second.file().write_at(0, as_bytes("second"));
  first.commit();
  CHECK(read_text_file(dir / "f") == "first, the longer");
  second.commit();
  CHECK(read_text_file(dir / "f") == "second");
  CHECK(entries_in(dir.path()) == 1);
}

TEST_CASE("an atomic file may have a name of the greatest length") {
  const TempDir dir;
  const fs::path path = dir / std::string(255, 'n');
  write_file(path, as_bytes("x"));
  CHECK(read_text_file(path) == "x");
}

TEST_CASE("an atomic file replaces nothing but a regular file, and leaves no file behind") {
  const TempDir dir;
  fs::create_directory(dir / "f");
  CHECK_ERROR(write_file(dir / "f", as_bytes("x")), ErrorKind::usage, "f: is a folder");
  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  CHECK_ERROR(write_file(dir / "pipe", as_bytes("x")), ErrorKind::usage, "pipe: is a pipe");
  CHECK(fs::is_fifo(dir / "pipe"));
  CHECK(entries_in(dir.path()) == 2);
}

TEST_CASE("what appears under the name while an atomic file is written is not replaced either") {
  const TempDir dir;
  AtomicFile file(dir / "f");
  fs::create_symlink("elsewhere", dir / "f");
  CHECK_ERROR(file.commit(), ErrorKind::usage, "f: is a symbolic link");
  CHECK(fs::is_symlink(dir / "f"));
}

TEST_CASE("an atomic file behind a symbolic link replaces the target, and the link stays") {
  const TempDir dir;
  fs::create_directory(dir / "disk");
  fs::create_symlink("disk/f", dir / "link");
  write_file(dir / "link", as_bytes("first"));
  CHECK(read_text_file(dir / "disk/f") == "first");
  AtomicFile second(dir / "link");
  CHECK(second.file().path().parent_path() == dir / "disk");
  second.file().write_at(0, as_bytes("second"));
  second.commit();
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(read_text_file(dir / "disk/f") == "second");
}

TEST_CASE("temporary names cannot be predicted, and what has one already is not written") {
  const TempDir dir;
  const AtomicFile first(dir / "f");
  const AtomicFile second(dir / "f");
  AtomicFile third(dir / "g");
  const std::string name = third.file().path().filename().string();
  CHECK(is_temporary_name(name));
  CHECK(name.starts_with(".g.part-"));
  for (const char* other : {"g.part-0123456789abcdef", ".g.part-0123456789abcde", ".g.part-0123456789abcdeg",
                            ".g.part", ".g.part-1234-0"})
    CHECK_FALSE(is_temporary_name(other));
  CHECK_ERROR(File::create_new(third.file().path()), ErrorKind::io, "cannot create: File exists");
  fs::create_symlink(dir / "precious", dir / "link");
  CHECK_ERROR(File::create_new(dir / "link"), ErrorKind::io, "cannot create: File exists");
  CHECK_FALSE(fs::exists(dir / "precious"));
}

TEST_CASE("a new file has its rights from the start and replaces nothing") {
  const TempDir temp;
  const fs::path path = temp.path() / "key";
  write_new_file(path, as_bytes("secret"), 0600);
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  CHECK_ERROR(write_new_file(path, as_bytes("other")), ErrorKind::usage, "key: is there already");
  CHECK(read_text_file(path) == "secret");
  // Not even a link that leads nowhere.
  fs::create_symlink("nowhere", temp.path() / "link");
  CHECK_ERROR(write_new_file(temp.path() / "link", as_bytes("x")), ErrorKind::usage,
              "link: is there already");
  CHECK(entries_in(temp.path()) == 2);
  const mode_t before = ::umask(077);
  write_new_file(temp.path() / "private", as_bytes(""));
  ::umask(before);
  REQUIRE(::stat((temp.path() / "private").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
}

TEST_CASE("a file that is too large to be read whole is refused") {
  const TempDir dir;
  write_file(dir / "f", as_bytes("0123456789"));
  CHECK(read_file(dir / "f", 10).size() == 10);
  CHECK_ERROR(read_file(dir / "f", 9), ErrorKind::malformed, "has 10 bytes, expected at most 9");
}

TEST_CASE("folders are made with their parents, and not over files") {
  const TempDir dir;
  make_directories(dir / "a/b/c");
  make_directories(dir / "a/b/c");
  CHECK(fs::is_directory(dir / "a/b/c"));
  write_file(dir / "f", as_bytes("x"));
  CHECK_ERROR(make_directories(dir / "f/g"), ErrorKind::io, "cannot create folder");
  CHECK_ERROR(make_directories(dir / "f"), ErrorKind::io, "f");
}

TEST_CASE("a full disk is no_space in every operation") {
  const TinyDisk disk;
  if (!disk.mounted()) {
    MESSAGE("SKIPPED: mounting a small tmpfs is refused here: " << std::strerror(errno));
    return;
  }
  const std::vector<std::byte> two_mib(2u << 20);
  CHECK_ERROR(write_file(disk / "big", two_mib), ErrorKind::no_space, "big");
  CHECK(entries_in(disk.path()) == 0);  // nothing half written is left
  File file = File::create(disk / "grown");
  CHECK_ERROR(file.write_at(0, two_mib), ErrorKind::no_space, "cannot write: No space left on device");
  std::string why = "nothing was refused";
  try {
    for (int i = 0; i < 50; ++i) static_cast<void>(File::create(disk / ("f" + std::to_string(i)).c_str()));
  } catch (const Error& error) {
    why = to_string(error.kind());
  }
  CHECK(why == "no_space");  // no inode is left
}

TEST_CASE("a lock is waited for, and is free again when its holder ends") {
  const TempDir dir;
  const fs::path path = dir / "lock";
  std::atomic<bool> held_by_other{false};
  std::thread other;
  {
    const File holder = File::create(path);
    REQUIRE(try_lock(holder));
    CHECK(try_lock(holder));  // a lock that one has is granted again
    other = std::thread([&] {
      const File second = File::create(path);
      held_by_other = wait_for_lock(second, [] { return true; });
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK_FALSE(held_by_other);
  }
  other.join();
  CHECK(held_by_other);

  // Also when the holder is another process that is killed.
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const File holder = File::create(path);
    static_cast<void>(!::write(ready[1], try_lock(holder) ? "x" : "?", 1));
    ::pause();
    ::_exit(0);
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  CHECK(byte == 'x');
  std::thread killer([child] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    ::kill(child, SIGKILL);
  });
  CHECK(wait_for_lock(File::create(path)));
  killer.join();
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("waiting for a lock ends when the caller does not want to wait longer") {
  const TempDir dir;
  const File holder = File::create(dir / "lock");
  REQUIRE(try_lock(holder));
  const File other = File::create(dir / "lock");
  CHECK_FALSE(try_lock(other));
  int asked = 0;
  CHECK_FALSE(wait_for_lock(other, [&] { return ++asked < 3; }));
  CHECK(asked == 3);
}

TEST_CASE("the unfinished file of a process that ended is removed, that of a running one is not") {
  const TempDir folder;
  write_file(folder / ".m.sluice.part-0123456789abcdef", as_bytes("left behind"));
  // These were not made for this name, or not by a program of ours.
  write_file(folder / ".m.part-0123456789abcdef", as_bytes("of m"));
  write_file(folder / ".m.sluice.part-2", as_bytes("of the user"));
  fs::create_symlink(".m.part-0123456789abcdef", folder / ".m.sluice.part-fedcba9876543210");
  AtomicFile living(folder / "m.sluice");
  {
    AtomicFile other(folder / "m.sluice");
    CHECK(entries_in(folder.path()) == 5);
    CHECK(!std::filesystem::exists(folder / ".m.sluice.part-0123456789abcdef"));
    other.file().write_at(0, as_bytes("other"));
    other.commit();
  }
  living.file().write_at(0, as_bytes("living"));
  living.commit();
  CHECK(read_text_file(folder / "m.sluice") == "living");
}

TEST_CASE("an identity changes with the content, also when the old time is set again") {
  const TempDir folder;
  const fs::path path = folder / "file";
  CHECK_FALSE(identify(path).has_value());
  write_file(path, as_bytes("first"));
  const auto first = identify(path).value();
  CHECK(first.size_bytes == 5);
  CHECK(MappedFile::open_read(path).identity() == first);
  CHECK(identify(path) == first);

  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // a tick of the clock that stamps files
  File::open_update(path).write_at(0, as_bytes("other"));
  struct timespec times[2] = {};
  for (auto& time : times) {
    time.tv_sec = first.modified_ns / 1'000'000'000;
    time.tv_nsec = first.modified_ns % 1'000'000'000;
  }
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
  const auto second = identify(path).value();
  CHECK(second.modified_ns == first.modified_ns);
  CHECK(second.inode == first.inode);
  CHECK(second.changed_ns > first.changed_ns);
  CHECK_FALSE(second == first);
}

TEST_CASE("a cache gets its name without waiting for the disk, and whole") {
  const TempDir folder;
  {
    AtomicFile file(folder / "cache");
    file.file().write_at(0, as_bytes("content"));
    CHECK_FALSE(fs::exists(folder / "cache"));
    file.place();
  }
  CHECK(read_text_file(folder / "cache") == "content");
  CHECK(entries_in(folder.path()) == 1);
}
