"""Drives a real browser over the pages of a daemon that works on a fleet.

Usage: browser.py URL AXE [FOLDER]

URL is that of the daemon, started with --actions on the fleet of the quickstart, with a running job `slow` and a
schedule `nightly`. AXE is axe.min.js. With a FOLDER, five screenshots go there. Prints a line a check; exits with 1 at
the first that fails.
"""

import csv
import os
import pathlib
import sys
import tempfile
import time

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

URL, AXE = sys.argv[1].rstrip("/"), pathlib.Path(sys.argv[2]).read_text()
SHOTS = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
PAGES = [
    "/", "/jobs", "/jobs?device=lamp-0701", "/jobs/slow", "/jobs/reboot-hall-c", "/schedules", "/devices",
    "/devices?query=tags.hall%20%3D%3D%20%27a%27", "/devices/lamp-0701", "/groups", "/groups/hall-a", "/imports",
    "/imports/lamps", "/failing", "/nothing",
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def browser(folder, script=True):
    options = webdriver.ChromeOptions()
    for argument in ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1200,900"]:
        options.add_argument(argument)
    options.add_experimental_option("prefs", {
        "download.default_directory": folder,
        "profile.managed_default_content_settings.javascript": 1 if script else 2,
    })
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(30)
    return driver


def done(what):
    print("ok:", what, flush=True)


def need(is_so, what):
    if not is_so:
        print("FAILED:", what, flush=True)
        sys.exit(1)


def until(driver, what, test, seconds=60):
    try:
        # A live part may be swapped, and a page loaded, between finding and reading it.
        wait = WebDriverWait(driver, seconds, poll_frequency=0.2, ignored_exceptions=[WebDriverException])
        return wait.until(lambda _: test())
    except Exception as error:  # noqa: BLE001
        print("FAILED:", what, repr(error)[:500], flush=True)
        print(driver.find_element(By.TAG_NAME, "main").text[:2000])
        sys.exit(1)


def text(driver, selector):
    for _ in range(20):
        try:
            return driver.find_element(By.CSS_SELECTOR, selector).text
        except WebDriverException:
            time.sleep(0.05)
    return driver.find_element(By.CSS_SELECTOR, selector).text


def click(driver, element):
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def axe(driver, name):
    driver.execute_script(AXE)
    found = driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}}).then(done, e => done({error: String(e)}));", RULES)
    need("error" not in found, f"axe on {name}: {found.get('error')}")
    for one in found["violations"]:
        print(name, one["id"], one["help"], [node["html"][:200] for node in one["nodes"]][:3])
    need(not found["violations"], f"axe finds {len(found['violations'])} violations on {name}")


def colors(driver, scheme):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})


def width(driver, pixels):
    if pixels is None:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    else:
        size = {"width": pixels, "height": 700, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def complaints(driver):
    # That a page is missing is what it was asked for.
    return [entry["message"] for entry in driver.get_log("browser") if "Failed to load resource" not in entry["message"]]


def live(driver):
    driver.get(URL + "/jobs/slow")
    driver.execute_script("window.here = true")
    first = text(driver, "#state-part")
    until(driver, "the numbers of a running job move by themselves", lambda: text(driver, "#state-part") != first)
    need(driver.execute_script("return window.here === true"), "the page was not loaded again")
    own = driver.current_window_handle
    driver.switch_to.new_window("tab")
    driver.get(URL + "/")
    until(driver, "a second tab shows the job", lambda: "slow" in text(driver, "#running-part"))
    driver.close()
    driver.switch_to.window(own)
    driver.refresh()
    again = text(driver, "#state-part")
    until(driver, "it is live after a reload in the middle", lambda: text(driver, "#state-part") != again)
    done("a running job is live, in two tabs and after a reload")


def stop(driver):
    driver.get(URL + "/jobs/slow")
    button = driver.find_element(By.CSS_SELECTOR, ".action button")
    click(driver, button)
    need("/stop" not in driver.current_url, "a stop without a reason is not sent")
    driver.find_element(By.CSS_SELECTOR, ".action input[name=reason]").send_keys("smoke in hall a")
    click(driver, button)
    until(driver, "the job is stopped", lambda: "stopped" in text(driver, "#state-part"))
    done("a job is stopped with a reason")


def grid(driver, folder):
    driver.get(URL + "/jobs/reboot-hall-c")
    Select(driver.find_element(By.CSS_SELECTOR, "#devices select[name=status]")).select_by_visible_text("failed")
    click(driver, driver.find_element(By.CSS_SELECTOR, "#devices .filter button"))
    until(driver, "the grid is filtered", lambda: "status=failed" in driver.current_url)
    rows = driver.find_elements(By.CSS_SELECTOR, "#grid-part tbody tr")
    need(len(rows) == 7 and all("failed" in row.text for row in rows), f"seven devices failed: {len(rows)}")
    driver.get(URL + "/jobs/reboot-hall-c")
    first = text(driver, "#grid-part tbody tr:last-child th")
    click(driver, driver.find_element(By.CSS_SELECTOR, "a[rel=next]"))
    until(driver, "the next page comes", lambda: "after=" in driver.current_url)
    need(text(driver, "#grid-part tbody tr th") > first, "the next page goes on behind the last device")
    click(driver, driver.find_element(By.LINK_TEXT, "Results of all devices as CSV"))
    file = pathlib.Path(folder) / "jobs-reboot-hall-c-runs-1.csv"
    until(driver, "the download ends", file.exists)
    with file.open(newline="") as lines:
        need(len(list(csv.reader(lines))) == 301, "the download has every device")
    done("the grid is filtered, paged and downloaded")


def everything(driver):
    for scheme in ["light", "dark"]:
        colors(driver, scheme)
        for page in PAGES:
            driver.get(URL + page)
            need(driver.title.endswith("fleetform"), f"{page} has a title: {driver.title}")
            axe(driver, f"{page} ({scheme})")
            need(not complaints(driver), f"the browser complains about {page}: {complaints(driver)}")
    done("axe finds no violation on any page, light and dark")
    colors(driver, "light")
    width(driver, 375)
    for page in PAGES:
        driver.get(URL + page)
        wide = driver.execute_script("return document.documentElement.scrollWidth")
        need(wide <= 375, f"{page} fits 375 pixels: {wide}")
        axe(driver, f"{page} (375 pixels)")
    width(driver, None)
    done("every page fits a screen of 375 pixels")


def keyboard(driver):
    driver.get(URL + "/")
    active = lambda: driver.switch_to.active_element  # noqa: E731
    body = driver.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    need(active().text == "Skip to the page", f"the first stop is the skip link: {active().text}")
    active().send_keys(Keys.ENTER)
    need(active().get_attribute("id") == "main", "it leads into the page")
    driver.get(URL + "/")
    seen = []
    for _ in range(20):
        active().send_keys(Keys.TAB) if seen else driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
        seen.append(active().text)
        outline = driver.execute_script("return getComputedStyle(document.activeElement).outlineWidth")
        need(outline != "0px", f"{active().text} shows that it has the focus")
        if active().text == "Failing":
            break
    need(seen[-1] == "Failing", f"all pages are reached by Tab: {seen}")
    active().send_keys(Keys.ENTER)
    until(driver, "Enter opens the page", lambda: driver.current_url.endswith("/failing"))
    done("the keyboard is enough")


def without_script(folder):
    driver = browser(folder, script=False)
    try:
        for page, expect in [("/", "Running"), ("/jobs", "reboot-hall-c"), ("/jobs/reboot-hall-c", "Threshold 5 per job"),
                             ("/devices", "lamp-0001"), ("/devices/lamp-0701", "Lamp 0701"), ("/failing", "lamp-0701")]:
            driver.get(URL + page)
            need(expect in text(driver, "main"), f"{page} says {expect} without a script")
        driver.get(URL + "/devices")
        driver.find_element(By.NAME, "search").send_keys("lamp-0701", Keys.ENTER)
        need("Lamp 0701" in text(driver, "main"), "a form is sent without a script")
    finally:
        driver.quit()
    done("the pages work without a script")


def shots(driver):
    SHOTS.mkdir(parents=True, exist_ok=True)
    driver.set_window_size(1000, 760)
    for name, page, scheme in [("now", "/", "light"), ("jobs", "/jobs", "light"), ("job", "/jobs/reboot-hall-c", "light"),
                               ("device", "/devices/lamp-0701", "dark"), ("failing", "/failing", "light")]:
        colors(driver, scheme)
        driver.get(URL + page)
        time.sleep(0.5)
        driver.save_screenshot(str(SHOTS / f"{name}.png"))
    done(f"five screenshots are in {SHOTS}")


def main():
    with tempfile.TemporaryDirectory() as folder:
        driver = browser(folder)
        try:
            live(driver)
            if SHOTS:
                shots(driver)
            stop(driver)
            grid(driver, folder)
            keyboard(driver)
            everything(driver)
        finally:
            driver.quit()
        without_script(folder)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
