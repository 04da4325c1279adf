#include "library/source.h"

#include <doctest/doctest.h>

#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;
using tests::write_text;

namespace fs = std::filesystem;

namespace {

constexpr const char* kInfohash = "0123456789abcdef0123456789abcdef01234567";

struct NamesFixture : LibraryFixture {
  NamesFixture() {
    add_release("mixtral-8x7b", R"("torrent": {"name": "mixtral-torrent", "infohash_v1": ")" +
                                    std::string(kInfohash) + "\"}");
    add_release("mixtral-8x22b");
  }

  fs::path keep_model(const std::string& name, const std::string& quant, const std::string& identity) {
    Store store(folders.store);
    const ModelSource source{name, quant, identity, {}};
    const auto unfinished = store.unfinished_path(source);
    base::write_file(unfinished, base::as_bytes(name + quant + identity));
    base::Sha256 root;
    root.bytes.fill(std::byte(identity.front()));
    return store.keep(unfinished, source, root).path;
  }

  Source find(const std::string& text, const std::string& quant = "") {
    return find_model_source(text, quant, "q4", folders);
  }
};

}  // namespace

TEST_CASE("a model's name is looked up after paths and before releases") {
  NamesFixture user;
  const auto own = user.keep_model("own", "q8", "/home/me/own");
  CHECK(user.find("own").kind == Source::Kind::model);
  CHECK(user.find("own").model == own);
  CHECK(user.find("mixtral-8x7b").kind == Source::Kind::release);
  CHECK(user.find("magnet:?xt=urn:btih:" + std::string(kInfohash)).kind == Source::Kind::magnet);
  CHECK(user.find(own.string()).kind == Source::Kind::path);
  // The model of the release itself is found by prepare_model(), which knows whether the release has changed.
  user.keep_model("mixtral-8x7b", "q4", kInfohash);
  CHECK(user.find("mixtral-8x7b").kind == Source::Kind::release);
  CHECK(user.find("mixtral-8x7b", "q8").kind == Source::Kind::release);
  // A model of the user comes before a release of its name.
  const auto other = user.keep_model("mixtral-8x22b", "q4", "/home/me/mixtral-8x22b");
  CHECK(user.find("mixtral-8x22b").model == other);
  CHECK(user.find("mixtral-8x22b", "q8").kind == Source::Kind::release);
}

TEST_CASE("an ambiguous name lists the models, an unknown one the nearest names") {
  NamesFixture user;
  user.keep_model("own", "q4", "/a/own");
  user.keep_model("own", "q4", "~/own");
  CHECK_ERROR(user.find("own"), ErrorKind::usage,
              "'own' means several models: own-q4-2f2f2f2f2f2f, own-q4-7e7e7e7e7e7e");
  CHECK(user.find("own-q4-7").kind == Source::Kind::model);
  CHECK_ERROR(user.find("mixtral"), ErrorKind::usage, "; did you mean mixtral-8x22b or mixtral-8x7b?");
  CHECK_ERROR(static_cast<void>(find_source("mixtral8x7b", user.folders)), ErrorKind::usage,
              "did you mean mixtral-8x7b?");
  CHECK_ERROR(user.find("banana"), ErrorKind::usage, "nor a known release (sluice releases");
}

TEST_CASE("commands that read what is there take names of releases and models") {
  NamesFixture user;
  const auto find = [&](const std::string& text) { return find_local(text, user.context); };
  CHECK_ERROR(find("mixtral-8x7b"), ErrorKind::usage,
              "is a known release that was not fetched yet: sluice fetch mixtral-8x7b");
  CHECK_ERROR(find("mixtral-8x7"), ErrorKind::usage, "does not exist; did you mean mixtral-8x7b?");
  const auto model = user.keep_model("mixtral-8x7b", "q4", kInfohash);
  CHECK(find("mixtral-8x7b-q4") == model);
  CHECK(find("mixtral-8x7b") == model);
  // The release comes before its model, as soon as it was fetched.
  const auto downloads = user.dir / "downloads";
  write_text(downloads / "mixtral-torrent" / "file", "x");
  Store(user.folders.store)
      .keep_place({"mixtral-8x7b", "mixtral-torrent", kInfohash, "", downloads, 1, true});
  CHECK(find("mixtral-8x7b") == downloads / "mixtral-torrent");
  CHECK(find("mixtral-torrent") == downloads / "mixtral-torrent");
  CHECK(find(kInfohash) == downloads / "mixtral-torrent");
  const auto shared = find_shared("mixtral-8x7b", user.context);
  CHECK(shared.folder == downloads);
  CHECK(shared.torrent == downloads / ".sluice" / (std::string(kInfohash) + ".torrent"));
  CHECK(find_shared("magnet:?xt=urn:btih:" + std::string(kInfohash), user.context).torrent == shared.torrent);
  CHECK_ERROR(static_cast<void>(find_shared("mixtral-8x22b", user.context)), ErrorKind::usage,
              "was not fetched yet");
}

TEST_CASE("releases of the user come in addition to the program's, and replace those of their name") {
  NamesFixture user;
  user.folders.user_data = user.dir / "more";
  write_text(user.folders.user_data / "manifests" / "own.json", R"({"manifest": 1, "name": "own"})");
  write_text(user.folders.user_data / "manifests" / "mixtral-8x22b.json",
             R"({"manifest": 1, "name": "mixtral-8x22b", "description": "mine"})");
  CHECK(list_release_names(user.folders) == std::vector<std::string>{"mixtral-8x22b", "mixtral-8x7b", "own"});
  CHECK(list_releases(user.context).size() == 3);
  CHECK(find_release("mixtral-8x22b", user.folders)->manifest.description == "mine");
  CHECK(find_release("mixtral-8x7b", user.folders));
}
