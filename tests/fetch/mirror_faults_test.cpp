// MirrorPool against HTTP servers of this process that lie, lack files, break off or are not whom one may
// ask.

#include <doctest/doctest.h>

#include "base/ascii.h"
#include "fetch/mirror/mirror.h"
#include "tests/fetch/mirror_support.h"
#include "tests/fetch/tiny_tracker.h"

using namespace sluice;
using namespace sluice::tests;

namespace {

/// A server that has plain_files() but answers requests for model.bin with `handler`.
TinyHttp::Handler with_model_bin(TinyHttp::Handler handler) {
  return [handler = std::move(handler)](const HttpRequest& request) {
    if (request.path == "/model.bin") return handler(request);
    if (request.path == "/params.json") return serve_content(request, "{}");
    return HttpResponse{.status = 404, .headers = {}};
  };
}

const std::string& model_bin() {
  static const std::string content = plain_files().at("model.bin");
  return content;
}

/// The warnings and pieces that result from a mirror's responses for model.bin.
Warnings warnings_of(const TinyHttp& server, std::size_t count) {
  const Release release(plain_files());
  return Fetching(release, {mirror(server.url())}).warnings_after(count);
}

}  // namespace

TEST_CASE("a wrong byte costs its piece, and three wrong pieces the mirror") {
  const Release release(plain_files());
  const auto lie_at = [](std::vector<std::size_t> places) {
    Files files = plain_files();
    for (const std::size_t at : places) files.at("model.bin")[at] ^= 1;
    return files;
  };
  const TinyHttp liar(lie_at({16384 * 2, 16384 * 7 + 1, 16384 * 9 + 16383}));
  {
    Fetching fetching(release, {mirror(liar.url())});
    const std::string start = "mirror " + liar.url();
    CHECK((fetching.warnings_after(4) ==
           Warnings{start + ": piece 2, in 'model.bin', is not what the torrent says",
                    start + ": piece 7, in 'model.bin', is not what the torrent says",
                    start + ": piece 9, in 'model.bin', is not what the torrent says",
                    start + " is no longer used: 3 pieces were wrong, the last piece 9, in 'model.bin'"}));
    CHECK(fetching.scheduler.delivered_count() == 18);
  }
  SUBCASE("what one mirror has wrong comes from another") {
    const TinyHttp once(lie_at({16384 * 20}));
    const TinyHttp twice(lie_at({16384 * 3, 16384 * 4}));
    Fetching fetching(release, {mirror(once.url()), mirror(twice.url())});
    fetching.check_complete(release);
    for (const std::string& warning : fetching.scheduler.warnings())
      CHECK_MESSAGE(warning.ends_with("is not what the torrent says"), warning);
  }
  SUBCASE("of a liar and an honest mirror all comes from the honest one") {
    const TinyHttp honest(plain_files());
    Fetching fetching(release, {mirror(liar.url()), mirror(honest.url())});
    fetching.check_complete(release);
  }
  SUBCASE("a v1 piece with bytes of several files names them") {
    const TinyHttp server(lie_at({16384 * 20 + 3}));
    Fetching fetching(release, {mirror(server.url())});
    CHECK((fetching.warnings_after(1) ==
           Warnings{"mirror " + server.url() +
                    ": piece 20, in 'model.bin' and 1 more, is not what the torrent says"}));
  }
}

TEST_CASE("another file of the same name is found out by its length, and the rest is still fetched") {
  const Release release(plain_files(), LtVersion::v2);
  for (const std::size_t length : {model_bin().size() + 1, model_bin().size() - 1, std::size_t{1}}) {
    CAPTURE(length);
    Files files = plain_files();
    files.at("model.bin").resize(length);
    const TinyHttp server(files);
    Fetching fetching(release, {mirror(server.url())});
    CHECK((fetching.warnings_after(1) ==
           Warnings{"mirror " + server.url() + ": 'model.bin' cannot be had from it: it has " +
                    std::to_string(length) + " bytes there, expected 327685"}));
  }
}

TEST_CASE("a file that a mirror does not have comes from another one") {
  const Release release(plain_files(), LtVersion::v2);
  const TinyHttp without_model(Files{{"params.json", "{}"}});
  const TinyHttp without_params(Files{{"model.bin", model_bin()}});
  Fetching fetching(release, {mirror(without_model.url()), mirror(without_params.url())});
  fetching.check_complete(release);
  const std::string end = "cannot be had from it: HTTP 404";
  for (const std::string& warning : fetching.scheduler.warnings())
    CHECK_MESSAGE((warning == "mirror " + without_model.url() + ": 'model.bin' " + end ||
                   warning == "mirror " + without_params.url() + ": 'params.json' " + end),
                  warning);
}

TEST_CASE("a mirror that has nothing of the release is left") {
  const Release release(odd_files(), LtVersion::v2);
  const TinyHttp server(Files{});
  const auto warnings = Fetching(release, {mirror(server.url())}).warnings_after(4);
  REQUIRE(warnings.size() == 4);
  CHECK(warnings.back() ==
        "mirror " + server.url() + " is no longer used: it has none of the files that were asked for");
}

TEST_CASE("a mirror that sends no parts of files is read from their start, each file once or twice") {
  for (const LtVersion version : {LtVersion::v1, LtVersion::v2, LtVersion::hybrid}) {
    CAPTURE(static_cast<int>(version));
    // In the v1 torrent pieces hold the end of one file and the start of the next.
    const Release release(odd_files(), version);
    const TinyHttp server([&](const HttpRequest& request) {
      HttpRequest whole = request;
      whole.headers.erase("range");
      const auto file = release.files.find(request.path.substr(1));
      return file != release.files.end() ? serve_content(whole, file->second)
                                         : HttpResponse{.status = 404, .headers = {}};
    });
    Fetching fetching(release, {mirror(server.url())});
    fetching.check_complete(release);
    CHECK((fetching.scheduler.warnings() ==
           Warnings{"mirror " + server.url() +
                    ": the server does not send parts of it; files are read from their start"}));
    const auto targets = server.targets();
    CHECK(std::ranges::count(targets, "/large.bin") <=
          4);  // two ranges, then whole, perhaps its start before
  }
}

TEST_CASE("a web seed redirects to signed URLs of another server, which expire") {
  const Release release(odd_files(), LtVersion::hybrid);
  std::atomic<int> signatures = 0;
  std::atomic<int> uses = 0;
  const TinyHttp storage([&](const HttpRequest& request) {
    // A signature is good for two requests.
    const std::size_t query = request.target.find("?sig=");
    if (query == std::string::npos || uses++ >= 2) return HttpResponse{.status = 403, .headers = {}};
    return serve_content(request,
                         release.files.at(base::percent_decode(request.target.substr(1, query - 1))));
  });
  std::atomic<int> busy = 1;
  const TinyHttp hub([&](const HttpRequest& request) {
    if (busy-- > 0) return HttpResponse{.status = 429, .headers = {"Retry-After: 0"}};
    uses = 0;
    ++signatures;
    const std::string path = request.target.substr(std::string("/model").size());
    return HttpResponse{.status = 302, .headers = {"Location: " + storage.url() + path + "?sig=1"}};
  });
  Fetching fetching(release, {{{hub.url(), true}, fetch::UrlRule::web_seed}});
  fetching.check_complete(release);
  CHECK(
      (fetching.scheduler.warnings() == Warnings{"web seed " + hub.url() + ": HTTP 429; it is tried again"}));
  // The signed URL of a file is used again until it expires.
  CHECK(signatures < static_cast<int>(storage.targets().size()));
}

TEST_CASE("a file that stays refused behind redirects is left, and the others come") {
  const Release release(odd_files(), LtVersion::v2);
  const TinyHttp storage([&](const HttpRequest& request) {
    if (request.path == "/deep/tiny") return HttpResponse{.status = 403, .headers = {}};
    return serve_content(request, release.files.at(request.path.substr(1)));
  });
  const TinyHttp hub([&](const HttpRequest& request) {
    return HttpResponse{.status = 302, .headers = {"Location: " + storage.url() + request.target}};
  });
  auto options = quick_options();
  options.failures_max = 100;
  Fetching fetching(release, {mirror(hub.url())}, options);
  CHECK(wait_until([&] { return fetching.scheduler.delivered_count() + 1 == release.map->piece_count(); }));
  CHECK(
      (fetching.warnings_after(2) ==
       Warnings{"mirror " + hub.url() + ": HTTP 403 behind a redirect; it is tried again",
                "mirror " + hub.url() + ": 'deep/tiny' cannot be had from it: HTTP 403 behind a redirect"}));
}

TEST_CASE("a server that says when to come again is not left, and a date says it as well as seconds") {
  const auto busy = std::make_shared<std::atomic<int>>(8);  // more than quick_options() allows failures
  const TinyHttp server(with_model_bin([busy](const HttpRequest& request) {
    const int left = (*busy)--;
    if (left > 4) return HttpResponse{.status = 429, .headers = {"Retry-After: 0"}};
    if (left > 0)
      return HttpResponse{.status = 503, .headers = {"Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"}};
    return serve_content(request, model_bin());
  }));
  const Release release(plain_files());
  Fetching fetching(release, {mirror(server.url())});
  fetching.check_complete(release);
  CHECK((fetching.scheduler.warnings() ==
         Warnings{"mirror " + server.url() + ": HTTP 429; it is tried again"}));
}

TEST_CASE("answers that are not what was asked for") {
  const auto check = [](TinyHttp::Handler handler, const std::string& why) {
    const TinyHttp server(with_model_bin(std::move(handler)));
    CHECK((warnings_of(server, 1) ==
           Warnings{"mirror " + server.url() + ": 'model.bin' cannot be had from it: " + why}));
  };
  const auto answer = [](HttpResponse response) {
    return [response](const HttpRequest&) { return response; };
  };
  check(answer({.status = 403, .headers = {}}), "HTTP 403");
  check(answer({.status = 204, .headers = {}}), "HTTP 204");
  check(answer({.status = 206, .headers = {}, .body = "x"}), "the answer does not say which part it is");
  check(answer({.status = 206, .headers = {"Content-Range: bytes 0-x/327685"}, .body = "x"}),
        "the answer does not say which part it is");
  check(answer({.status = 206, .headers = {"Content-Range: bytes 1-327684/327685"}, .body = "x"}),
        "the answer is another part than was asked for");
  check(answer({.status = 206, .headers = {"Content-Range: bytes 0-0/18446744073709551616"}, .body = "x"}),
        "the answer does not say which part it is");
  check(answer({.status = 200, .headers = {"Content-Encoding: gzip"}, .body = "x"}),
        "the server sends it in an encoding that was not asked for");
  check(answer({.status = 200, .headers = {}, .body = std::string(1 << 20, 'x')}),
        "it has 1048576 bytes there, expected 327685");
}

TEST_CASE("a mirror that truncates is tried again, then left") {
  const auto cut = [](std::size_t kept) {
    return with_model_bin([kept](const HttpRequest& request) {
      HttpResponse response = serve_content(request, model_bin());
      response.announced_bytes = response.body.size();
      if (kept < response.body.size()) response.body.resize(kept);
      response.close = true;
      return response;
    });
  };
  {
    const TinyHttp server(cut(20'000));
    const Release release(plain_files());
    Fetching fetching(release, {mirror(server.url())});
    // One piece per request; complete pieces are kept.
    const std::string start = "mirror " + server.url();
    CHECK(fetching.scheduler.wait_for_warnings(2));
    fetching.pool.reset();
    CHECK((fetching.scheduler.warnings() ==
           Warnings{start + ": the answer ends after 20000 of 327685 bytes; it is tried again",
                    start + " is no longer used: it failed 3 times in a row, the last time: the answer ends "
                            "after 20000 of 294917 bytes"}));
    CHECK(fetching.scheduler.delivered_count() == 3);
    CHECK(server.targets().size() == 3);
  }
  const TinyHttp server(cut(300'000));  // a failure after so many bytes does not count
  const Release release(plain_files());
  Fetching fetching(release, {mirror(server.url())});
  fetching.check_complete(release);
  CHECK((fetching.scheduler.warnings() == Warnings{}));
}

TEST_CASE("more bytes than were asked for are cut off and count as a failure") {
  const TinyHttp server(with_model_bin([](const HttpRequest& request) {
    HttpResponse response = serve_content(request, model_bin());
    response.body += std::string(1 << 20, 'x');
    return response;
  }));
  const std::string start = "mirror " + server.url();
  const std::string why = "the answer is longer than the 327685 bytes that were asked for";
  CHECK(warnings_of(server, 1).front() == start + ": " + why + "; it is tried again");
}

TEST_CASE("a mirror that never answers, or stops to, is left") {
  const Release release(plain_files());
  auto options = quick_options();
  options.failures_max = 1;
  const auto check = [&](TinyHttp::Handler handler, const std::string& why) {
    const TinyHttp server(with_model_bin(std::move(handler)));
    CHECK((Fetching(release, {mirror(server.url())}, options).warnings_after(1) ==
           Warnings{"mirror " + server.url() +
                    " is no longer used: it failed 1 times in a row, the last time: " + why}));
  };
  check([](const HttpRequest&) { return HttpResponse{.status = 200, .headers = {}, .stall = true}; },
        "the server does not answer");
  check(
      [](const HttpRequest& request) {
        HttpResponse response = serve_content(request, model_bin());
        response.announced_bytes = response.body.size();
        response.body.resize(1000);
        return response;
      },
      "the server stops answering");
}

TEST_CASE("a server that is busy or gone is tried again") {
  SUBCASE("busy") {
    auto busy = std::make_shared<std::atomic<int>>(2);
    const TinyHttp server(with_model_bin([busy](const HttpRequest& request) {
      if ((*busy)-- > 0) return HttpResponse{.status = 503, .headers = {"Retry-After: 0"}};
      return serve_content(request, model_bin());
    }));
    const Release release(plain_files());
    Fetching fetching(release, {mirror(server.url())});
    fetching.check_complete(release);
    CHECK((fetching.scheduler.warnings() ==
           Warnings{"mirror " + server.url() + ": HTTP 503; it is tried again"}));
  }
  SUBCASE("gone") {
    int port = 0;
    ::close(listen_on_loopback(port));
    const std::string url = "http://127.0.0.1:" + std::to_string(port);
    const Release release(plain_files());
    CHECK((Fetching(release, {mirror(url)}).warnings_after(2) ==
           Warnings{"mirror " + url + ": the server cannot be reached; it is tried again",
                    "mirror " + url +
                        " is no longer used: it failed 3 times in a row, the last time: the server cannot be "
                        "reached"}));
  }
}

TEST_CASE("redirects") {
  const TinyHttp honest(plain_files());
  const auto redirect_to = [](const std::string& url) {
    return [url](const HttpRequest& request) {
      return HttpResponse{.status = 302, .headers = {"Location: " + url + request.target}, .body = "moved"};
    };
  };
  const Release release(plain_files());
  const auto problem_of = [&](const TinyHttp& server) {
    const auto warnings = Fetching(release, {mirror(server.url())}).warnings_after(1);
    const std::string start = "mirror " + server.url() + " is no longer used: ";
    CHECK(warnings.size() == 1);
    return warnings.front().starts_with(start) ? warnings.front().substr(start.size()) : warnings.front();
  };
  SUBCASE("are followed, and keep the connection") {
    const TinyHttp server(redirect_to(honest.url()));
    Fetching fetching(release, {mirror(server.url())});
    fetching.check_complete(release);
    CHECK(server.connections() == 1);
    CHECK((fetching.scheduler.warnings() == Warnings{}));
  }
  SUBCASE("come to an end") {
    const TinyHttp server(redirect_to(""));
    CHECK(problem_of(server) == "more than 5 redirects");
    CHECK(server.targets().size() == 6);
  }
  SUBCASE("lead to http and https only") {
    for (const char* url : {"ftp://127.0.0.1", "file:///etc", "gopher://x", "http://user@127.0.0.1"}) {
      const TinyHttp server(redirect_to(url));
      CHECK_MESSAGE(problem_of(server) == "it redirects to what is not a usable URL", url);
    }
  }
}

TEST_CASE("private addresses are only for those whom the user trusts") {
  const Release release(plain_files());
  const TinyHttp server(plain_files());
  SUBCASE("an untrusted server at one is not asked") {
    for (const std::string host : {"127.0.0.1", "localhost", "[::1]", "2130706433"}) {
      const std::string url = "http://" + host + ":" + std::to_string(server.port());
      CHECK((Fetching(release, {mirror(url, false)}).warnings_after(1) ==
             Warnings{"mirror " + url + " is no longer used: it is at a private address"}));
    }
    CHECK(server.connections() == 0);
  }
  SUBCASE("unless all are allowed") {
    auto options = quick_options();
    options.allow_private = true;
    Fetching fetching(release, {mirror(server.url(), false)}, options);
    fetching.check_complete(release);
  }
  SUBCASE("what is no URL is not used at all") {
    CHECK((Fetching(release, {mirror("ftp://127.0.0.1/")}).warnings_after(1) ==
           Warnings{"ftp://127.0.0.1/: has the scheme 'ftp', which is not supported, and is not used"}));
  }
}
