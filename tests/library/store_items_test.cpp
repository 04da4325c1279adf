#include "library/store_items.h"

#include <doctest/doctest.h>

#include "base/file_lock.h"
#include "tests/library/library_fixture.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::library;
using base::ErrorKind;
using tests::LibraryFixture;
using tests::write_text;

namespace fs = std::filesystem;

namespace {

struct StoreFixture : LibraryFixture {
  StoreFixture() { dir_of_user = dir / "downloads"; }

  StoredModel keep_model(const ModelSource& source) {
    const auto unfinished = store.unfinished_path(source);
    base::write_file(unfinished, base::as_bytes("a model"));
    base::Sha256 root;
    root.bytes.fill(std::byte{0xab});
    return store.keep(unfinished, source, root);
  }

  /// A release of one file with 5 bytes.
  ReleasePlace keep_release(const std::string& name, char digit, const fs::path& folder, bool complete) {
    ReleasePlace place{name, name + "-torrent", std::string(40, digit), "", folder, 5, complete};
    write_text(place.path() / "weights", "bytes");
    store.keep_place(place);
    return place;
  }

  std::vector<StoreItem> items() { return list_items(store, observer); }
  StoreItem item(const std::string& name) {
    auto found = items();
    std::erase_if(found, [&](const StoreItem& item) { return item.name != name && item.infohash != name; });
    REQUIRE(found.size() == 1);
    return found.front();
  }

  Store store{folders.store};
  fs::path dir_of_user;
};

}  // namespace

TEST_CASE("models, releases here and elsewhere, and leftovers are listed with their sizes") {
  StoreFixture user;
  CHECK(user.items().empty());
  const std::string here(40, '1');
  user.keep_release("mixtral", '1', user.store.release_folder(here), true);
  user.keep_release("elsewhere", '2', user.dir_of_user, true);
  user.keep_release("begun", '3', user.store.release_folder(std::string(40, '3')), false);
  user.keep_model({"mixtral", "q4", here, {}});
  write_text(user.store.folder() / "models" / ".other-q8.unfinished.part", "half");
  write_text(user.store.folder() / "models" / "gone-q4-abababababab.json", "{}");

  const auto items = user.items();
  REQUIRE(items.size() == 6);
  CHECK(items[0].name == "mixtral-q4");
  CHECK(items[0].kind == StoreItem::Kind::model);
  CHECK(items[0].bytes == 7);
  CHECK(items[1].name == "begun");
  CHECK_FALSE(items[1].complete);
  CHECK(items[2].name == "elsewhere");
  CHECK_FALSE(items[2].in_store);
  CHECK(items[2].path == user.dir_of_user / "elsewhere-torrent");
  CHECK_FALSE(items[2].converted);
  CHECK(items[3].name == "mixtral");
  CHECK(items[3].in_store);
  CHECK(items[3].converted);
  CHECK(items[3].bytes == 5);
  CHECK(items[4].name == ".other-q8.unfinished.part");
  CHECK(items[5].problem == "its model was deleted");

  std::vector<std::string> abandoned;
  for (const auto& item : items)
    if (is_abandoned(item)) abandoned.push_back(item.name);
  CHECK(abandoned ==
        std::vector<std::string>{"begun", ".other-q8.unfinished.part", "gone-q4-abababababab.json"});
}

TEST_CASE("two models of one name and type are told apart by their roots") {
  StoreFixture user;
  user.keep_model({"demo", "q4", "x", {}});
  const auto models = user.store.folder() / "models";
  std::string record = base::read_text_file(models / "demo-q4-abababababab.json");
  record.replace(record.find("abab"), 12, "cdcdcdcdcdcd");
  write_text(models / "demo-q4-cdcdcdcdcdcd.json", record);
  write_text(models / "demo-q4-cdcdcdcdcdcd.sluice", "another");
  CHECK(find_items(user.items(), "demo").size() == 2);
  CHECK(find_items(user.items(), "demo-q4").size() == 2);
  REQUIRE(find_items(user.items(), "demo-q4-cd").size() == 1);
  CHECK(find_items(user.items(), "demo-q4-cd")[0].name == "demo-q4-cdcdcdcdcdcd");
}

TEST_CASE("removing takes exactly that, and a release outside of the store keeps its files") {
  StoreFixture user;
  const std::string here(40, '1');
  user.keep_release("mixtral", '1', user.store.release_folder(here), true);
  user.keep_release("elsewhere", '2', user.dir_of_user, true);
  const auto model = user.keep_model({"mixtral", "q4", here, {}});

  CHECK(remove_item(user.store, user.item("mixtral-q4")) > 7);  // the record, too
  CHECK_FALSE(fs::exists(model.path));
  CHECK(user.items().size() == 2);
  CHECK(remove_item(user.store, user.item("mixtral")) > 5);
  CHECK_FALSE(fs::exists(user.store.release_folder(here)));
  remove_item(user.store, user.item(std::string(40, '2')));
  CHECK(user.items().empty());
  CHECK(base::read_text_file(user.dir_of_user / "elsewhere-torrent" / "weights") == "bytes");
}

TEST_CASE("what another process makes or fetches is not removed") {
  StoreFixture user;
  const std::string here(40, '1');
  const auto place = user.keep_release("mixtral", '1', user.store.release_folder(here), true);
  const auto model = user.keep_model({"mixtral", "q4", here, {}});
  {
    const auto lock = user.store.lock("mixtral", "q4", user.observer, {});
    CHECK(is_in_use(user.item("mixtral-q4")));
    CHECK_ERROR(remove_item(user.store, user.item("mixtral-q4")), ErrorKind::usage, "in use");
    // The conversion may read the release.
    CHECK_ERROR(remove_item(user.store, user.item("mixtral")), ErrorKind::usage, "in use");
  }
  const auto fetch_lock = place.folder / ".sluice" / (place.key() + ".lock");
  write_text(fetch_lock, "");
  const auto held = base::File::open_read(fetch_lock);
  REQUIRE(base::try_lock(held));
  CHECK_FALSE(is_in_use(user.item("mixtral-q4")));
  CHECK_ERROR(remove_item(user.store, user.item("mixtral")), ErrorKind::usage, "in use");
  CHECK(fs::exists(place.path()));
  CHECK(fs::exists(model.path));
}

TEST_CASE("no link leads a removal out of the store") {
  StoreFixture user;
  const auto outside = user.dir / "outside";
  write_text(outside / "precious", "stays");
  // A link in a release is removed itself.
  const auto place = user.keep_release("mixtral", '1', user.store.release_folder(std::string(40, '1')), true);
  fs::create_directory_symlink(outside, place.path() / "link");
  remove_item(user.store, user.item("mixtral"));
  CHECK_FALSE(fs::exists(place.folder));
  CHECK(fs::exists(outside / "precious"));
  // A folder of the store that lies elsewhere is left alone.
  fs::create_directory_symlink(outside, user.store.folder() / "models");
  write_text(outside / "demo.sluice", "a model");
  CHECK_ERROR(remove_item(user.store, user.item("demo")), ErrorKind::usage, "leads out of the model store");
  CHECK(fs::exists(outside / "demo.sluice"));
}
