#include "base/output.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "base/file.h"
#include "tests/support/check_error.h"
#include "tests/support/temp_dir.h"

using namespace sluice::base;
using sluice::tests::TempDir;
namespace fs = std::filesystem;

namespace {

constexpr uid_t kNobody = 65534;

std::string is_no_poem(const fs::path& path) {
  return read_text_file(path).starts_with("poem") ? "" : "is no poem";
}

/// A release folder with a file in a folder below it, as the input of a command.
struct Release {
  TempDir folder;
  InputFiles inputs{folder / "rel", folder / "text"};

  Release() {
    fs::create_directories(folder / "rel/deep");
    write_file(folder / "rel/deep/weights", as_bytes("weights"));
    write_file(folder / "text", as_bytes("poem"));
  }
  void require(const fs::path& name, bool overwrite = false) const {
    require_output(folder / name, {.inputs = inputs, .problem = is_no_poem, .overwrite = overwrite});
  }
};

/// Runs `function` as a user without rights, in a process of its own; true when it returns true there.
template <typename F>
bool as_nobody(F function) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::setgid(kNobody) == 0 && ::setuid(kNobody) == 0 && function() ? 0 : 1);
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("an output that is an input is refused under every name, also with --overwrite") {
  const Release release;
  fs::create_hard_link(release.folder / "rel/deep/weights", release.folder / "hard");
  fs::create_symlink("rel/deep/weights", release.folder / "soft");
  fs::create_symlink("soft", release.folder / "softer");
  fs::create_directory_symlink("rel", release.folder / "other");
  for (const char* name : {"rel/deep/weights", "hard", "soft", "softer", "other/deep/weights", "text"}) {
    CAPTURE(name);
    CHECK_ERROR(release.require(name), ErrorKind::usage, "is an input of this command");
    CHECK_ERROR(release.require(name, true), ErrorKind::usage, "is an input of this command");
  }
  // The folder is an input, too.
  CHECK_ERROR(release.require("rel"), ErrorKind::usage, "rel: is an input of this command");
  CHECK_NOTHROW(release.require("rel/deep/new"));
}

TEST_CASE("a link in an input folder stands for the file that it leads to") {
  const TempDir folder;
  fs::create_directory(folder / "snapshot");
  write_file(folder / "blob", as_bytes("weights"));
  fs::create_symlink("../blob", folder / "snapshot/model.safetensors");
  const InputFiles inputs{folder / "snapshot"};
  CHECK(inputs.find(folder / "blob") == folder / "snapshot/model.safetensors");
  CHECK_FALSE(inputs.find(folder / "none").has_value());
}

TEST_CASE("a file that holds the content already is left alone") {
  const TempDir folder;
  const InputFiles none;
  const OutputRule rule{.inputs = none};
  CHECK(needs_writing(folder / "list", as_bytes("list"), rule));
  write_file(folder / "list", as_bytes("list"));
  CHECK_FALSE(needs_writing(folder / "list", as_bytes("list"), rule));
  CHECK_ERROR(needs_writing(folder / "list", as_bytes("other"), rule), ErrorKind::usage,
              "list: is there already and says something else; --overwrite replaces it");
  const InputFiles inputs{folder / "list"};
  CHECK(needs_writing(folder / "list", as_bytes("other"), {.inputs = {}, .overwrite = true}));
  CHECK_FALSE(needs_writing(folder / "list", as_bytes("list"), {.inputs = inputs}));
  CHECK_ERROR(needs_writing(folder / "list", as_bytes("other"), {.inputs = inputs, .overwrite = true}),
              ErrorKind::usage, "is an input of this command");
}

TEST_CASE("an existing file is replaced when the command made it, when it is empty, or when asked for") {
  const Release release;
  write_file(release.folder / "mine", as_bytes("poem of old"));
  write_file(release.folder / "novel", as_bytes("novel"));
  write_file(release.folder / "empty", {});
  CHECK_NOTHROW(release.require("new"));
  CHECK_NOTHROW(release.require("mine"));
  CHECK_NOTHROW(release.require("empty"));
  CHECK_ERROR(
      release.require("novel"), ErrorKind::usage,
      "novel: is there already and is no poem; --overwrite replaces it, or give another name with -o");
  CHECK_NOTHROW(release.require("novel", true));
  CHECK_ERROR(require_output(release.folder / "mine", {.inputs = {}, .option = ""}), ErrorKind::usage,
              "mine: is there already and was not made by this command; --overwrite replaces it");
}

TEST_CASE("folders, pipes, sockets and devices are refused, also with --overwrite and behind links") {
  const Release release;
  fs::create_directory(release.folder / "folder");
  REQUIRE(::mkfifo((release.folder / "pipe").c_str(), 0600) == 0);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un address {};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, (release.folder / "socket").c_str(), sizeof address.sun_path - 1);
  REQUIRE(::bind(socket, reinterpret_cast<struct sockaddr*>(&address), sizeof address) == 0);
  ::close(socket);
  for (const char* kind : {"folder", "pipe", "socket", "device"}) {
    CAPTURE(kind);
    if (std::string_view(kind) == "device" &&
        ::mknod((release.folder / "device").c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0)
      continue;  // only root makes devices, and not in every container
    fs::create_symlink(kind, release.folder / (std::string("to-") + kind));
    const std::string part = std::string("is a ") + kind + "; only a regular file is replaced";
    CHECK_ERROR(release.require(kind), ErrorKind::usage, part);
    CHECK_ERROR(release.require(kind, true), ErrorKind::usage, part);
    CHECK_ERROR(release.require(std::string("to-") + kind, true), ErrorKind::usage, part);
  }
}

TEST_CASE("the folder of an output must exist and be one") {
  const Release release;
  CHECK_ERROR(release.require("new/deep/f"), ErrorKind::usage, "new/deep does not exist; create it first");
  CHECK_ERROR(release.require("text/f"), ErrorKind::io,
              "text: cannot write into the folder: Not a directory");
  fs::create_symlink("nowhere/f", release.folder / "dangling");
  CHECK_ERROR(release.require("dangling"), ErrorKind::usage, "nowhere does not exist");
  fs::create_symlink("loop", release.folder / "loop");
  CHECK_ERROR(release.require("loop"), ErrorKind::usage, "leads through too many others");
}

TEST_CASE("a folder, or a name that ends in a slash, stands for a file in it") {
  const TempDir folder;
  const std::string root = folder.path().string();
  CHECK(output_path(root, "m.sluice") == folder / "m.sluice");
  CHECK(output_path(root + "/", "m.sluice") == folder / "m.sluice");
  CHECK(output_path(root + "/x.sluice", "m.sluice") == folder / "x.sluice");
  CHECK(output_path("x.sluice", "m.sluice") == "x.sluice");
  CHECK(output_path(root + "/new/", "m.sluice") == folder / "new/m.sluice");
  CHECK(fs::is_directory(folder / "new"));
  CHECK_ERROR(output_path(root + "/a/b/", "m.sluice"), ErrorKind::usage, "a does not exist");
  write_file(folder / "file", as_bytes("x"));
  CHECK_ERROR(output_path(root + "/file/", "m.sluice"), ErrorKind::usage, "file: is not a folder");
}

TEST_CASE("a folder that cannot be written is told before the work") {
  if (::geteuid() != 0) return;  // root is refused nothing, so the test becomes somebody else
  const TempDir folder;
  fs::permissions(folder.path(), fs::perms(0755));
  CHECK_NOTHROW(require_output_folder(folder / "f"));
  CHECK(as_nobody([&] {
    try {
      require_output_folder(folder / "f");
    } catch (const Error& error) {
      return error.kind() == ErrorKind::io &&
             std::string(error.what()).ends_with("cannot write into the folder: Permission denied");
    }
    return false;
  }));
}

TEST_CASE("a symbolic link of another user is not followed") {
  if (::geteuid() != 0) return;  // only root can make links of others
  const TempDir folder;
  write_file(folder / "precious", as_bytes("precious"));
  fs::create_symlink("precious", folder / "link");
  REQUIRE(::lchown((folder / "link").c_str(), kNobody, kNobody) == 0);
  CHECK_ERROR(output_target(folder / "link"), ErrorKind::usage,
              "link: is a symbolic link of another user (uid 65534), which is not followed");
  CHECK_ERROR(write_file(folder / "link", as_bytes("x")), ErrorKind::usage, "of another user");
  CHECK(read_text_file(folder / "precious") == "precious");
}

TEST_CASE("a file of another user in a sticky folder is told before the work") {
  if (::geteuid() != 0) return;
  const TempDir folder;
  fs::permissions(folder.path(), fs::perms(01777));
  write_file(folder / "theirs", as_bytes("poem"));
  CHECK(as_nobody([&] {
    try {
      require_output(folder / "theirs", {.inputs = {}, .problem = is_no_poem});
    } catch (const Error& error) {
      return error.kind() == ErrorKind::io;
    }
    return false;
  }));
}
