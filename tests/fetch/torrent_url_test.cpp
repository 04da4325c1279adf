// A .torrent from a web server of this process.

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "fetch/fetch.h"
#include "fetch/torrent/torrent_file.h"
#include "tests/fetch/fetch_support.h"
#include "tests/fetch/lt_support.h"
#include "tests/fetch/tiny_http.h"
#include "tests/fetch/tiny_tracker.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;

namespace {

std::string download(const std::string& url, std::uint64_t memory_bytes = 512u << 20, double timeout_s = 0,
                     const std::stop_token& stop = {}) {
  fetch::FetchRequest request;
  request.source = url;
  request.memory_bytes = memory_bytes;
  request.timeout_s = timeout_s;
  return fetch::download_torrent(request, stop);
}

TinyHttp::Handler always(const HttpResponse& response) {
  return [response](const HttpRequest&) { return response; };
}

void check_network_error(const HttpResponse& response, const std::string& why) {
  const TinyHttp server(always(response));
  const std::string url = server.url() + "/x.torrent";
  CHECK_ERROR(download(url), ErrorKind::network, url + ": cannot be downloaded: " + why);
}

}  // namespace

TEST_CASE("a .torrent is had from its URL, as it is there") {
  const std::string content = noise(1, 3'000'000);
  const TinyHttp server(Files{{"dir/x y.torrent", content}});
  CHECK(download(server.url() + "/dir/x%20y.torrent?key=value") == content);
  const TinyHttp moved(
      always({.status = 301, .headers = {"Location: " + server.url() + "/dir/x%20y.torrent"}}));
  CHECK(download(moved.url()) == content);
}

TEST_CASE("a .torrent that cannot be had is an error of the network that says why") {
  check_network_error({.status = 404, .headers = {}, .body = "no"}, "HTTP 404");
  check_network_error({.status = 206, .headers = {}, .body = "part"}, "HTTP 206");
  check_network_error({.status = 304, .headers = {}}, "HTTP 304");
  check_network_error({.status = 503, .headers = {}, .body = std::string(1 << 20, 'x')}, "HTTP 503");
  check_network_error({.status = 200, .headers = {}, .body = "d4:in", .announced_bytes = 100, .close = true},
                      "the answer breaks off");
  check_network_error({.status = 200, .headers = {"Content-Encoding: gzip"}, .body = "x"},
                      "the server sends it in an encoding that was not asked for");
  check_network_error({.status = 302, .headers = {"Location: file:///etc/passwd"}},
                      "it redirects to what is not a usable URL");
  check_network_error({.status = 302, .headers = {"Location: /x.torrent"}}, "more than 5 redirects");
  int port = 0;
  ::close(listen_on_loopback(port));
  CHECK_ERROR(download("http://127.0.0.1:" + std::to_string(port)), ErrorKind::network,
              "the server cannot be reached");
  CHECK_ERROR(download("http://user@127.0.0.1/"), ErrorKind::usage, "is not a usable URL");
  CHECK_ERROR(download("ftp://127.0.0.1/"), ErrorKind::usage, "has the scheme 'ftp'");
}

TEST_CASE("an answer that is larger than any .torrent is cut off") {
  const TinyHttp server(always({.status = 200, .headers = {}, .body = std::string((160 << 20) + 1, 'x')}));
  CHECK_ERROR(download(server.url()), ErrorKind::malformed, "has more than 167772160 bytes");
}

TEST_CASE("no more of a .torrent is taken than may be held in memory") {
  const TinyHttp server(always({.status = 200, .headers = {}, .body = std::string(12 << 20, 'x')}));
  CHECK_ERROR(download(server.url(), 64u << 20), ErrorKind::usage,
              "has more than 11184810 bytes, the most that can be read with --memory 64.0 MiB");
}

TEST_CASE("a .torrent that does not arrive in time ends the download") {
  const TinyHttp server(always({.status = 200, .headers = {}, .stall = true}));
  CHECK_ERROR(download(server.url(), 512u << 20, 0.3), ErrorKind::no_peers,
              "did not arrive within --timeout");
}

TEST_CASE("the wait for a server can be ended") {
  const TinyHttp server(always({.status = 200, .headers = {}, .stall = true}));
  std::stop_source stop;
  const std::jthread ending([&](const std::stop_token& ended) {
    while (server.targets().empty() && !ended.stop_requested())
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    stop.request_stop();
  });
  CHECK_ERROR(download(server.url(), 512u << 20, 0, stop.get_token()), ErrorKind::interrupted, "");
}

TEST_CASE("a release is fetched by the URL of its .torrent, from peers and from a mirror") {
  const TempDir dir;
  write_files(dir / "model", sample_files());
  const auto published = publish_folder(dir / "model");
  const TinyHttp web(Files{{"model.torrent", read_text(published.torrent)}, {"other", "not a torrent"}});
  RecordingObserver observer;
  SUBCASE("peers") {
    const SeedThread seeder(published.torrent, dir.path());
    static_cast<void>(
        fetch::fetch(make_request(web.url() + "/model.torrent", dir / "out", {seeder.peer()}), observer, {}));
    CHECK((read_files(dir / "out/model") == sample_files()));
  }
  SUBCASE("a mirror") {
    const TinyHttp mirror(sample_files());
    auto request = make_request(web.url() + "/model.torrent", dir / "out", {});
    request.mirrors = {mirror.url()};
    const auto fetched = fetch::fetch(request, observer, {});
    CHECK((read_files(dir / "out/model") == sample_files()));
    CHECK(fetched.downloaded_bytes == fetched.layout.payload_bytes());
    CHECK(observer.warnings.empty());
  }
  SUBCASE("one web seed that redirects, and no tracker, as a registry's torrents have") {
    const TinyHttp storage(sample_files());
    const TinyHttp hub([&](const HttpRequest& asked) {
      const std::string path = asked.target.substr(std::string("/resolve/1a2b/model").size());
      return HttpResponse{.status = 302, .headers = {"Location: " + storage.url() + path}};
    });
    auto torrent = fetch::parse_torrent_file(make_lt_torrent(dir / "model", LtVersion::hybrid), "x");
    CHECK(std::ranges::any_of(torrent.layout.files, &format::ReleaseFile::pad));
    // "url-list" is one string and not a list.
    const std::string url = hub.url() + "/resolve/1a2b/";
    std::string text = fetch::to_text(torrent);
    text.insert(text.size() - 1, "8:url-list" + std::to_string(url.size()) + ":" + url);
    write_text(dir / "x.torrent", text);
    auto request = make_request((dir / "x.torrent").string(), dir / "out", {});
    request.allow_private = true;
    const auto fetched = fetch::fetch(request, observer, {});
    CHECK((read_files(dir / "out/model") == sample_files()));
    CHECK(fetched.downloaded_bytes == fetched.layout.payload_bytes());
    CHECK(observer.warnings.empty());
  }
  SUBCASE("what is no .torrent is malformed") {
    const auto request = make_request(web.url() + "/other", dir / "out", {});
    CHECK_ERROR(static_cast<void>(fetch::fetch(request, observer, {})), ErrorKind::malformed, "/other: ");
  }
}
