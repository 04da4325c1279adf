#include <doctest/doctest.h>

#include "convert/convert.h"
#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"
#include "tests/support/tiny_release.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;

TEST_CASE("a source is a magnet link or URL, then a path, then a release name, and else a usage error") {
  const LibraryFixture user;
  const auto kind = [&](const std::string& text) { return find_source(text, user.folders).kind; };
  CHECK(kind("magnet:?xt=urn:btih:0123") == Source::Kind::magnet);
  CHECK(kind("MAGNET:?xt=urn:btih:0123") == Source::Kind::magnet);
  CHECK(kind("https://example.org/x.torrent") == Source::Kind::url);
  CHECK(kind("HTTP://example.org/x.torrent") == Source::Kind::url);
  CHECK(kind("/") == Source::Kind::path);
  CHECK_ERROR(kind("no-such-release"), ErrorKind::usage, "no-such-release");
  CHECK(kind("0123456789abcdef0123456789abcdef01234567") == Source::Kind::magnet);
  const std::string file = (user.dir / "link.txt").string();
  tests::write_text(file, "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567\r\n");
  CHECK(kind(file) == Source::Kind::magnet);
  CHECK(kind("file://" + file) == Source::Kind::magnet);
  tests::write_text(file, "words");
  CHECK(kind("file://" + file) == Source::Kind::path);
  user.add_release("known");
  CHECK(kind("known") == Source::Kind::release);
}

TEST_CASE("a path has precedence over a release of the same name") {
  const LibraryFixture user;
  const std::string path = (user.dir / "known").string();
  tests::write_text(path, "a file");
  const auto source = find_source(path, user.folders);
  CHECK(source.kind == Source::Kind::path);
  CHECK_FALSE(source.release);
}

TEST_CASE("a release name cannot leave the manifests folder") {
  CHECK(is_release_name("mixtral-8x7b"));
  CHECK_FALSE(is_release_name("../secret"));
  CHECK_FALSE(is_release_name(".hidden"));
  CHECK_FALSE(is_release_name("UPPER"));
  CHECK_FALSE(is_release_name(""));
  const LibraryFixture user;
  tests::write_text(user.folders.data / "secret.json", R"({"manifest": 1, "name": "secret"})");
  CHECK_FALSE(find_release("../secret", user.folders));
}

TEST_CASE("known releases are listed by name, and a damaged manifest is a warning") {
  LibraryFixture user;
  CHECK(list_releases(user.context).empty());
  user.add_release("zebra");
  user.add_release("ant");
  std::filesystem::create_directories(user.folders.data / "manifests" / "ant");
  tests::write_text(user.folders.data / "manifests" / "broken.json", "{");
  tests::write_text(user.folders.data / "manifests" / "README", "not a manifest");

  const auto releases = list_releases(user.context);
  REQUIRE(releases.size() == 2);
  CHECK(releases[0].manifest.name == "ant");
  CHECK(releases[0].embedded_folder == user.folders.data / "manifests" / "ant");
  CHECK(releases[1].manifest.name == "zebra");
  CHECK_FALSE(releases[1].embedded_folder);
  REQUIRE(user.observer.warnings.size() == 1);
  CHECK(user.observer.warnings[0].find("broken.json") != std::string::npos);
  CHECK_ERROR(find_release("broken", user.folders), ErrorKind::malformed, "broken.json");
}

TEST_CASE("without a data folder no release is known") {
  LibraryFixture user;
  user.add_release("known");
  user.folders.data.clear();
  CHECK(list_releases(user.context).empty());
  CHECK_FALSE(find_release("known", user.folders));
}

TEST_CASE("a manifest is named by its file or by its release") {
  const LibraryFixture user;
  user.add_release("known");
  const auto file = user.dir / "own.json";
  tests::write_text(file, "{}");
  CHECK(find_manifest_file(file.string(), user.folders) == file);
  CHECK(find_manifest_file("known", user.folders) == user.folders.data / "manifests" / "known.json");
  CHECK_ERROR(find_manifest_file("unknown", user.folders), ErrorKind::usage, "--manifest unknown");
}

TEST_CASE("a container leads to the known release that it names, and a damaged manifest is a warning") {
  LibraryFixture user;
  tests::write_tiny_release(user.dir.path(), tests::tiny_params(), 1);
  convert::Request conversion;
  conversion.input = user.dir.path();
  conversion.output = user.dir / "model.sluice";
  conversion.release_name = "known";
  base::NoProgress progress;
  static_cast<void>(convert::convert(conversion, progress, {}));
  CHECK_FALSE(find_origin(conversion.output, user.context));

  user.add_release("known", R"("context_tokens": 4096)");
  const auto release = find_origin(conversion.output, user.context);
  REQUIRE(release);
  CHECK(release->manifest.context_tokens == 4096);

  tests::write_text(release->manifest_path, "{");
  CHECK_FALSE(find_origin(conversion.output, user.context));
  CHECK(user.observer.warnings.size() == 1);
}
