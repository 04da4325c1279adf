// MirrorPool against honest HTTP servers of this process.

#include "fetch/mirror/mirror.h"

#include <doctest/doctest.h>

#include "fetch/net/http_ranges.h"
#include "tests/fetch/mirror_support.h"

using namespace sluice;
using namespace sluice::tests;
using fetch::UrlRule;

TEST_CASE("a mirror's files are where its URL and the rule say") {
  format::ReleaseLayout layout;
  layout.name = "my model";
  layout.files.resize(1);
  layout.files[0].path = "a b/ü%.bin";
  const auto urls = [&](const std::string& url, UrlRule rule) { return file_urls(layout, 0, url, rule); };
  using Urls = std::vector<std::string>;
  CHECK((urls("http://h/m", UrlRule::mirror) ==
         Urls{"http://h/m/a%20b/%C3%BC%25.bin", "http://h/m/my%20model/a%20b/%C3%BC%25.bin"}));
  CHECK((urls("http://h/m/?k=v#x", UrlRule::mirror).front() == "http://h/m/a%20b/%C3%BC%25.bin?k=v"));
  CHECK((urls("http://h/m", UrlRule::web_seed) == Urls{"http://h/m/my%20model/a%20b/%C3%BC%25.bin"}));
  CHECK((urls("http://h/", UrlRule::web_seed) == Urls{"http://h/my%20model/a%20b/%C3%BC%25.bin"}));
  layout.single_file = true;
  layout.name = layout.files[0].path = "w.bin";
  CHECK((urls("http://h/m", UrlRule::mirror) == Urls{"http://h/m/w.bin", "http://h/m"}));
  CHECK((urls("http://h/m", UrlRule::web_seed) == Urls{"http://h/m"}));
  CHECK((urls("http://h/m/", UrlRule::web_seed) == Urls{"http://h/m/w.bin"}));
}

TEST_CASE("an honest mirror brings a whole release of any version, over one connection") {
  for (const LtVersion version : {LtVersion::v1, LtVersion::v2, LtVersion::hybrid}) {
    CAPTURE(static_cast<int>(version));
    const Release release(odd_files(), version);
    const TinyHttp server(release.below("files/"));
    Fetching fetching(release, {mirror(server.url() + "/files")});
    CHECK(fetching.scheduler.wait_for_all());
    CHECK(fetching.pool->downloaded_bytes() == release.layout.payload_bytes());
    CHECK(fetching.pool->used_count() == 1);
    fetching.check_complete(release);
    CHECK((fetching.scheduler.warnings() == Warnings{}));
    CHECK(server.connections() == 1);
    // Pieces that follow each other in a file are asked for together.
    CHECK(server.targets().size() < release.map->piece_count() / 4);
  }
}

TEST_CASE("a mirror may have the release's folder instead of its files") {
  const Release release(odd_files());
  const TinyHttp server(release.below("pub/model/"));
  Fetching fetching(release, {mirror(server.url() + "/pub/")});
  fetching.check_complete(release);
  CHECK((fetching.scheduler.warnings() == Warnings{}));
  // It is only looked for elsewhere once.
  CHECK(std::ranges::count_if(server.targets(), [](const std::string& target) {
          return !target.starts_with("/pub/model/");
        }) == 1);
}

TEST_CASE("a web seed is used by BEP 19's rule, for folders and single files") {
  {
    const Release release(odd_files());
    const TinyHttp server(release.below("pub/model/"));
    Fetching fetching(release, {{{server.url() + "/pub", true}, UrlRule::web_seed}});
    fetching.check_complete(release);
    CHECK((fetching.scheduler.warnings() == Warnings{}));
  }
  Release release(plain_files());
  write_text(release.dir / "w.bin", noise(5, 100'000));
  release.use(publish_folder(release.dir / "w.bin").layout);
  release.files = {{"w.bin", noise(5, 100'000)}};
  const TinyHttp server(Files{{"somewhere/else", noise(5, 100'000)}, {"w.bin", noise(5, 100'000)}});
  for (const char* path : {"/somewhere/else", "/"}) {
    Fetching fetching(release, {{{server.url() + path, true}, UrlRule::web_seed}});
    fetching.check_complete(release);
    CHECK((fetching.scheduler.warnings() == Warnings{}));
  }
}

TEST_CASE("pieces that cannot be verified are not fetched") {
  Release release(plain_files(), LtVersion::v2);
  format::ReleaseLayout layout = release.layout;
  for (auto& file : layout.files) file.piece_layer.clear();
  release.use(layout);
  const TinyHttp server(plain_files());
  Fetching fetching(release, {mirror(server.url())});
  CHECK(wait_until([&] { return !server.targets().empty(); }));
  fetching.pool.reset();
  for (const std::string& target : server.targets()) CHECK(target == "/params.json");
}

TEST_CASE("a pool stops in the middle of a transfer") {
  SUBCASE("of a server that sends nothing") {
    const Release release(odd_files());  // more than one run, so that both are asked
    const TinyHttp server(
        [](const HttpRequest&) { return HttpResponse{.status = 200, .headers = {}, .stall = true}; });
    auto options = quick_options();
    options.stall_timeout = std::chrono::hours(24);
    Fetching fetching(release, {mirror(server.url()), mirror(server.url())}, options);
    CHECK(wait_until([&] { return server.targets().size() == 2; }));
    fetching.pool.reset();
    CHECK(fetching.scheduler.kept_count() == 0);
    CHECK((fetching.scheduler.warnings() == Warnings{}));
  }
  SUBCASE("held up by a limit of the rate") {
    const Release release(plain_files());
    const TinyHttp server(plain_files());
    auto options = quick_options();
    options.limit_down_bytes_per_s = 1;
    Fetching fetching(release, {mirror(server.url())}, options);
    CHECK(wait_until([&] { return fetching.pool->downloaded_bytes() > 0; }));
    fetching.pool.reset();
    CHECK(fetching.scheduler.kept_count() == 0);
  }
}

TEST_CASE("a limit that is lifted ends the wait for it") {
  const Release release(plain_files());
  const TinyHttp server(plain_files());
  auto options = quick_options();
  options.limit_down_bytes_per_s = 1;
  Fetching fetching(release, {mirror(server.url())}, options);
  CHECK(wait_until([&] { return fetching.pool->downloaded_bytes() > 0; }));
  fetching.pool->limit_down(0);
  fetching.check_complete(release);
}

TEST_CASE("the rate is limited over all mirrors together") {
  const Release release(plain_files());
  const TinyHttp one(plain_files());
  const TinyHttp two(plain_files());
  auto options = quick_options();
  options.limit_down_bytes_per_s = 1'000'000;
  const auto start = std::chrono::steady_clock::now();
  Fetching fetching(release, {mirror(one.url()), mirror(two.url())}, options);
  fetching.check_complete(release);
  // Never faster, however slow the machine.
  CHECK(std::chrono::steady_clock::now() - start > std::chrono::milliseconds(250));
}
