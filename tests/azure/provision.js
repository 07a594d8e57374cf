// Devices that register themselves with Microsoft's own clients for Node, as they are installed, over MQTT, MQTT in a
// WebSocket and HTTPS, and connect.
//
//     GROUP_KEY=KEY node provision.js HOST CERTIFICATE FOLDER
//
// FOLDER has the certificates of `x-1`, which the group's authority has signed, and of `x-2`, which it has not. `off-1`
// is registered and blocked. NODE_PATH has the clients, NODE_EXTRA_CA_CERTS names the certificate.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Mqtt, MqttWs } = require('azure-iot-provisioning-device-mqtt');
const { Http } = require('azure-iot-provisioning-device-http');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');
const device = require('azure-iot-device');
const deviceMqtt = require('azure-iot-device-mqtt');

const [host, , folder] = process.argv.slice(2);
const SCOPE = '0ne1';

function derived(id) {
  return crypto.createHmac('sha256', Buffer.from(process.env.GROUP_KEY, 'base64')).update(id).digest('base64');
}

function shown(id) {
  const read = (kind) => fs.readFileSync(path.join(folder, `${id}.${kind}`), 'utf8');
  return { cert: read('pem'), key: read('key') };
}

function register(Transport, security, scope = SCOPE) {
  return ProvisioningDeviceClient.create(host, scope, new Transport(), security).register();
}

const withKey = (Transport, id, key = derived(id), scope = SCOPE) =>
  register(Transport, new SymmetricKeySecurityClient(id, key), scope);
const withCertificate = (Transport, id) => register(Transport, new X509Security(id, shown(id)));

function isAssigned(result, id) {
  assert.deepEqual([result.status, result.deviceId, result.assignedHub], ['assigned', id, host]);
}

async function connected(client, line) {
  await client.open();
  const twin = await client.getTwin();
  await new Promise((done, failed) => {
    twin.properties.reported.update({ line }, (error) => (error ? failed(error) : done()));
  });
  await client.close();
}

async function main() {
  for (const [number, Transport] of [Mqtt, MqttWs, Http].entries()) {
    const id = `sn-${number}`;
    const first = await withKey(Transport, id);
    isAssigned(first, id);
    const again = await withKey(Transport, id);
    isAssigned(again, id);
    assert.equal(again.etag, first.etag);
    isAssigned(await withCertificate(Transport, 'x-1'), 'x-1');
    await assert.rejects(withKey(Transport, 'sn-9', derived('sn-8')), Transport.name);
    await assert.rejects(withKey(Transport, id, derived(id), 'other'), Transport.name);
    await assert.rejects(withCertificate(Transport, 'x-2'), Transport.name);
    await assert.rejects(withKey(Transport, 'off-1'), Transport.name);
  }
  const text = `HostName=${host};DeviceId=sn-0;SharedAccessKey=${derived('sn-0')}`;
  await connected(device.Client.fromConnectionString(text, deviceMqtt.Mqtt), 3);
  const client = device.Client.fromConnectionString(`HostName=${host};DeviceId=x-1;x509=true`, deviceMqtt.Mqtt);
  await client.setOptions(shown('x-1'));
  await connected(client, 4);
}

main().then(
  () => {
    console.log('all of it holds');
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
