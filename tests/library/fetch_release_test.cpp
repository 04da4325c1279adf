#include <doctest/doctest.h>

#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;
using tests::write_text;

namespace {

/// Two published releases. Every fetch is a dry run of a .torrent: no worker starts and nobody is asked.
struct Publisher : LibraryFixture {
  Publisher() : one(publish("one")), two(publish("two")) {}

  [[nodiscard]] fetch::PublishResult publish(const std::string& name) const {
    write_text(dir / name / "weights.bin", name);
    fetch::PublishRequest request;
    request.folder = dir / name;
    base::NoProgress progress;
    return fetch::publish(request, progress, {});
  }
  [[nodiscard]] FetchReleaseRequest request(const std::string& source) const {
    FetchReleaseRequest wanted;
    wanted.source = source;
    wanted.fetch.output_folder = dir / "downloads";
    wanted.fetch.worker_command = {"/bin/false"};
    wanted.fetch.dry_run = true;
    return wanted;
  }

  fetch::PublishResult one;
  fetch::PublishResult two;
};

}  // namespace

TEST_CASE("a torrent is fetched with the manifest beside it") {
  Publisher user;
  const auto fetched = fetch_release(user.request(user.one.torrent.string()), user.context);
  CHECK(fetched.result.layout.name == "one");
  CHECK(user.observer.layouts == std::vector<std::string>{"one"});
  REQUIRE(fetched.signature);
  CHECK(fetched.signature->file == user.one.manifest_path.string());
  CHECK(user.observer.work_ends == 1);
}

TEST_CASE("a torrent that the manifest does not name is refused before the observer hears of it") {
  Publisher user;
  auto wanted = user.request(user.one.torrent.string());
  wanted.manifest = user.two.manifest_path.string();
  CHECK_ERROR(fetch_release(wanted, user.context), ErrorKind::verification,
              "not the torrent that the manifest names");
  CHECK(user.observer.layouts.empty());

  write_text(user.dir / "no-hash.json", R"({"manifest": 1, "name": "no-hash"})");
  wanted.manifest = (user.dir / "no-hash.json").string();
  CHECK_ERROR(fetch_release(wanted, user.context), ErrorKind::verification,
              "names no info-hash of this torrent");
}

TEST_CASE("with a key, the manifest has to be signed by it, and the signer is noted") {
  Publisher user;
  const auto key = base::new_secret_key();
  auto wanted = user.request(user.one.torrent.string());
  wanted.key = base::to_line(key.public_key());
  CHECK_ERROR(fetch_release(wanted, user.context), ErrorKind::untrusted, "is not signed");
  LibraryFixture::sign_file(user.one.manifest_path, key);
  CHECK(fetch_release(wanted, user.context).signature->state == SignatureState::valid);
  REQUIRE(user.observer.notes.size() == 1);
  CHECK(user.observer.notes[0].find(base::to_string(key.id)) != std::string::npos);

  wanted.source = user.one.magnet;
  CHECK_ERROR(fetch_release(wanted, user.context), ErrorKind::untrusted,
              "no signed manifest of this release");
}

TEST_CASE("a folder and a known release without an info-hash cannot be fetched") {
  Publisher user;
  CHECK_ERROR(fetch_release(user.request((user.dir / "one").string()), user.context), ErrorKind::usage,
              "is a folder");
  user.add_release("nowhere");
  CHECK_ERROR(fetch_release(user.request("nowhere"), user.context), ErrorKind::usage, "no magnet link");
}
